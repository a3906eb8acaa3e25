//! Authentication of callers.

use std::time::SystemTime;

use aws_sdk_kms::{
    config::{
        ConfigBag, Credentials, Intercept, RuntimeComponents,
        interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_types::body::SdkBody;

use crate::setup::{Harness, REGION, credentials, exception};

#[tokio::test]
async fn credentials_are_checked() {
    let harness = Harness::start();
    let (id, secret, token) = credentials("signer");
    let other_secret = "x".repeat(40);
    for (id, secret, token, refusal) in [
        (
            &*id,
            &*other_secret,
            Some(&*token),
            "InvalidSignatureException",
        ),
        (
            &*id,
            &*secret,
            Some("token-of-somebody-else"),
            "UnrecognizedClientException",
        ),
        (&*id, &*secret, None, "UnrecognizedClientException"),
        (
            "AKIANOBODY",
            &*secret,
            Some(&*token),
            "UnrecognizedClientException",
        ),
    ] {
        let credentials = Credentials::new(id, secret, token.map(str::to_owned), None, "test");
        let client = harness
            .files
            .client_with(harness.kms.address(), credentials);
        assert_eq!(exception(client.list_keys().send().await), refusal);
    }
    assert!(harness.client("signer").list_keys().send().await.is_ok());
}

#[tokio::test]
async fn long_term_credentials_come_without_a_token() {
    let harness = Harness::start();
    let (id, secret, _) = credentials("signer");
    let arn = "arn:aws:iam::111122223333:user/somebody";
    let file = serde_json::json!({"principals": [{"access_key_id": id, "secret_access_key": secret, "principal_arn": arn}]});
    std::fs::write(harness.files.path("principals.json"), file.to_string()).unwrap();
    let client = |token: Option<&str>| {
        let credentials = Credentials::new(&id, &secret, token.map(str::to_owned), None, "test");
        harness
            .files
            .client_with(harness.kms.address(), credentials)
    };
    assert!(client(None).list_keys().send().await.is_ok());
    assert_eq!(
        exception(client(Some("token")).list_keys().send().await),
        "UnrecognizedClientException"
    );
}

#[tokio::test]
async fn a_signature_covers_the_whole_request() {
    let harness = Harness::start();
    for tampering in [
        Tampering::Body("{\"KeyId\":\"other\"}"),
        Tampering::Header("x-amz-target", "TrentService.ScheduleKeyDeletion"),
        Tampering::Header("x-amz-date", "20200101T000000Z"),
    ] {
        let call = harness
            .client("signer")
            .describe_key()
            .key_id("one")
            .customize()
            .interceptor(tampering);
        let refused = exception(call.send().await);
        assert_eq!(refused, "InvalidSignatureException", "{tampering:?}");
    }
    let call = harness.client("signer").list_keys().customize();
    let other_region =
        aws_sdk_kms::config::Builder::new().region(aws_sdk_kms::config::Region::new("us-east-1"));
    assert_eq!(
        exception(call.config_override(other_region).send().await),
        "InvalidSignatureException"
    );
}

#[tokio::test]
async fn a_signature_for_another_service_is_refused() {
    let harness = Harness::start();
    let address = harness.kms.address();
    for (service, expected) in [
        ("kms", (200, None)),
        ("execute-api", (400, Some("InvalidSignatureException"))),
    ] {
        let (id, secret, token) = credentials("signer");
        let identity = Credentials::new(id, secret, Some(token), None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let (host, target) = (address.to_string(), "TrentService.ListKeys");
        let signed = [("host", host.as_str()), ("x-amz-target", target)];
        let body = SignableBody::Bytes(b"{}");
        let request =
            SignableRequest::new("POST", format!("https://{host}/"), signed.into_iter(), body)
                .unwrap();
        let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
        let mut headers = vec![("x-amz-target".to_owned(), target.to_owned())];
        headers.extend(
            instructions
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );

        let (status, reply) = harness
            .files
            .send(address, "/", headers, b"{}".to_vec())
            .await;
        assert_eq!((status, reply["__type"].as_str()), expected, "{service}");
    }
}

#[tokio::test]
async fn an_old_signature_is_refused() {
    let harness = Harness::start();
    harness.let_time_pass(14 * 60);
    assert!(harness.client("signer").list_keys().send().await.is_ok());
    harness.let_time_pass(2 * 60);
    assert_eq!(
        exception(harness.client("signer").list_keys().send().await),
        "InvalidSignatureException"
    );
}

#[tokio::test]
async fn an_unsigned_request_is_refused_whatever_it_asks() {
    let harness = Harness::start();
    for target in ["TrentService.ListKeys", "TrentService.NoSuchThing", ""] {
        let headers = vec![("x-amz-target".to_owned(), target.to_owned())];
        let (status, body) = harness
            .files
            .send(harness.kms.address(), "/", headers, b"{}".to_vec())
            .await;
        assert_eq!(
            (status, body["__type"].as_str()),
            (400, Some("MissingAuthenticationTokenException"))
        );
    }
    let too_long = vec![b' '; 200 * 1024];
    assert_eq!(
        harness
            .files
            .send(harness.kms.address(), "/", Vec::new(), too_long)
            .await
            .0,
        413
    );
}

/// A change of a request after it was signed.
#[derive(Debug, Clone, Copy)]
enum Tampering {
    Body(&'static str),
    Header(&'static str, &'static str),
}

impl Intercept for Tampering {
    fn name(&self) -> &'static str {
        "Tampering"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        match self {
            Self::Body(body) => {
                request
                    .headers_mut()
                    .insert("content-length", body.len().to_string());
                *request.body_mut() = SdkBody::from(*body);
            }
            Self::Header(name, value) => drop(request.headers_mut().insert(*name, *value)),
        }
        Ok(())
    }
}
