//! The HTTP client: builds, signs and sends requests.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};

use crate::credentials::Credentials;
use crate::error::ClientError;
use crate::response::Response;

/// A client of one API.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoint: String,
    region: String,
    credentials: Credentials,
}

/// The credential scope and time of a SigV4 signature.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The AWS service: `execute-api` for the API, `lambda` for direct invokes.
    pub service: String,
    /// The AWS region.
    pub region: String,
    /// The time of the signature.
    pub at: SystemTime,
}

impl Client {
    /// A client of the API at `endpoint` (`https://…`, stage included; `http://` for a laptop's
    /// gateway) in `region`. `ca` holds PEM certificates of roots trusted in addition to the
    /// system's.
    ///
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` apply as in curl, except to an
    /// endpoint on this machine, which no proxy can reach.
    ///
    /// # Errors
    /// [`ClientError`] if the endpoint is not a valid URL or the CA is not a valid certificate.
    pub fn new(
        endpoint: &str,
        region: &str,
        credentials: impl Into<Credentials>,
        ca: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let url = endpoint.parse::<Uri>().map_err(ClientError::Endpoint)?;
        if url.authority().is_none() {
            return Err(ClientError::EndpointWithoutHost);
        }
        // The workspace's TLS provider; it may be installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let roots = ca
            .map_or_else(|| Ok(Vec::new()), reqwest::Certificate::from_pem_bundle)
            .map_err(ClientError::Setup)?;
        let mut builder = reqwest::Client::builder();
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let http = builder
            .tls_certs_merge(roots)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(DEADLINE)
            .tcp_nodelay(true)
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Self {
            http,
            endpoint,
            region: region.to_owned(),
            credentials: credentials.into(),
        })
    }

    /// Posts `body` to `path`, signed.
    ///
    /// # Errors
    /// [`ClientError`] if there is no response. A response with an error status is a [`Response`].
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Response, ClientError> {
        self.signed(Method::POST, path, body.into(), &self.scope("execute-api"))
            .await
    }

    /// Gets `path`, signed.
    ///
    /// # Errors
    /// [`ClientError`] if there is no response. A response with an error status is a [`Response`].
    pub async fn get(&self, path: &str) -> Result<Response, ClientError> {
        self.signed(Method::GET, path, Bytes::new(), &self.scope("execute-api"))
            .await
    }

    /// Invokes the function `name` directly and waits for its result. The endpoint must be
    /// Lambda's, not the API's; a laptop's gateway serves both.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
    ///
    /// # Errors
    /// [`ClientError`] if there is no response. A response with an error status is a [`Response`].
    pub async fn invoke(
        &self,
        name: &str,
        event: impl Into<Bytes>,
    ) -> Result<Response, ClientError> {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        self.signed(Method::POST, &path, event.into(), &self.scope("lambda"))
            .await
    }

    /// Builds an unsigned request.
    ///
    /// # Errors
    /// [`ClientError::Request`] if `path` is not a valid path.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Request<Bytes>, ClientError> {
        let body = body.into();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request.body(body).map_err(ClientError::Request)
    }

    /// The scope of a request sent now in the client's region.
    pub fn scope(&self, service: &str) -> Scope {
        Scope {
            service: service.to_owned(),
            region: self.region.clone(),
            at: SystemTime::now(),
        }
    }

    /// Signs `request` with the client's credentials. The signature does not cover later changes.
    ///
    /// # Errors
    /// [`ClientError::Sign`] if the request cannot be canonicalised.
    pub fn sign(&self, request: &mut Request<Bytes>, scope: &Scope) -> Result<(), ClientError> {
        let identity = self.credentials.identity();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&scope.region)
            .name(&scope.service)
            .time(scope.at)
            .settings(settings)
            .build()
            .map_err(|error| ClientError::Sign(error.into()))?
            .into();
        // Headers that are not text cannot be signed; this crate sets none.
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let uri = request.uri().to_string();
        let signable = SignableRequest::new(
            request.method().as_str(),
            uri,
            headers,
            SignableBody::Bytes(request.body()),
        )
        .map_err(|error| ClientError::Sign(error.into()))?;
        let (instructions, _signature) = sign(signable, &params)
            .map_err(|error| ClientError::Sign(error.into()))?
            .into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// Sends `request` unchanged, signed or not.
    ///
    /// # Errors
    /// [`ClientError::Transport`] if there is no response.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response, ClientError> {
        let request = reqwest::Request::try_from(request.map(reqwest::Body::from))
            .map_err(ClientError::Transport)?;
        let response = self
            .http
            .execute(request)
            .await
            .map_err(ClientError::Transport)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(ClientError::Transport)?;
        Ok(Response {
            status: status.as_u16(),
            headers,
            body,
        })
    }

    async fn signed(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        scope: &Scope,
    ) -> Result<Response, ClientError> {
        let mut request = self.request(method, path, body)?;
        self.sign(&mut request, scope)?;
        self.send(request).await
    }
}

/// Returns whether the host of `url` is this machine: `localhost` or a loopback address.
pub fn is_loopback(url: &Uri) -> bool {
    url.host().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// Longer than API Gateway's own time-out of 29 s.
const DEADLINE: Duration = Duration::from_secs(35);
