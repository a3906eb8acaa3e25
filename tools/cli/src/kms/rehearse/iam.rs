//! The five calls of IAM's Query API that a rehearsal needs. IAM's SDK takes longer to compile than
//! the rest of this program.
//!
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_Operations.html>

use std::time::SystemTime;

use aws_credential_types::Credentials;
use cloister_client::{Client, Scope};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::failure::Failure;

const VERSION: &str = "2010-05-08";

/// A client of IAM.
#[derive(Debug)]
pub(super) struct Iam {
    client: Client,
    /// The signing region of IAM, a global service.
    region: &'static str,
}

impl Iam {
    pub(super) fn new(
        partition: &str,
        credentials: Credentials,
        ca: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        // <https://docs.aws.amazon.com/general/latest/gr/iam-service.html>
        let (endpoint, region) = match partition {
            "aws-cn" => ("https://iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            "aws-us-gov" => ("https://iam.us-gov.amazonaws.com", "us-gov-west-1"),
            _ => ("https://iam.amazonaws.com", "us-east-1"),
        };
        // As in every AWS SDK.
        let endpoint =
            std::env::var("AWS_ENDPOINT_URL_IAM").unwrap_or_else(|_| endpoint.to_owned());
        Ok(Self {
            client: Client::new(&endpoint, region, credentials, ca)?,
            region,
        })
    }

    pub(super) async fn call(
        &self,
        action: &'static str,
        parameters: &[(&str, &str)],
    ) -> Result<(), Failure> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let body = form
            .extend_pairs([("Action", action), ("Version", VERSION)])
            .extend_pairs(parameters)
            .finish();
        let mut request = self.client.request(Method::POST, "/", body)?;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let scope = Scope {
            service: "iam".to_owned(),
            region: self.region.to_owned(),
            at: SystemTime::now(),
        };
        self.client.sign(&mut request, &scope)?;
        let answer = self.client.send(request).await?;
        if answer.status == 200 {
            return Ok(());
        }
        let text = answer.text();
        let code = element(&text, "Code").unwrap_or("unknown");
        let message = format!(
            "{code}: {}",
            element(&text, "Message").unwrap_or("no message")
        );
        Err(Failure::Aws {
            operation: action,
            code: Some(code.to_owned()),
            message,
        })
    }
}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_iam_is_read() {
        let xml = "<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>The role cannot be found.</Message></Error></ErrorResponse>";
        assert_eq!(element(xml, "Code"), Some("NoSuchEntity"));
        assert_eq!(element(xml, "Message"), Some("The role cannot be found."));
        assert_eq!(element("<html>", "Code"), None);
    }
}
