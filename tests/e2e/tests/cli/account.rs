//! A part of IAM and STS, enough for a rehearsal: roles are created and deleted, and the stack's KMS
//! knows the principals that assume them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use cloister_e2e::{Local, random_secret};
use cloister_local::identity::{ACCOUNT, role_arn};
use serde_json::{Value, json};

/// An account's IAM and STS, at one address.
pub(crate) struct Account {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// The roles there are, and whether each may do something.
    roles: BTreeMap<String, bool>,
    /// Every role that ever was.
    seen: BTreeSet<String>,
    created: usize,
    known: bool,
    /// The KMS's list of whom it knows.
    principals: PathBuf,
}

impl Account {
    pub(crate) async fn start(local: &Local) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            roles: BTreeMap::new(),
            seen: BTreeSet::new(),
            created: 0,
            known: true,
            principals: local.stack.data().path("principals.json"),
        }));
        let router = Router::new()
            .route("/", post(answer))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on no credentials are valid.
    pub(crate) fn forget_everybody(&self) {
        self.shared.lock().unwrap().known = false;
    }

    /// Credentials that the KMS knows as those of `arn`.
    pub(crate) fn credentials(&self, arn: &str, token: &str) -> (String, String) {
        self.shared.lock().unwrap().credentials(arn, token)
    }

    /// The roles that are there.
    pub(crate) fn roles(&self) -> Vec<String> {
        self.shared.lock().unwrap().roles.keys().cloned().collect()
    }

    /// The number of times a role was created.
    pub(crate) fn created(&self) -> usize {
        self.shared.lock().unwrap().created
    }
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, body: String) -> (StatusCode, String) {
    let form: BTreeMap<String, String> = form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let mut shared = shared.lock().unwrap();
    match shared.perform(&form) {
        Ok(xml) => (StatusCode::OK, xml),
        Err((code, message)) => {
            let error =
                format!("<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>");
            let xml = format!(
                "<ErrorResponse><Error>{error}</Error><RequestId>r</RequestId></ErrorResponse>"
            );
            (StatusCode::FORBIDDEN, xml)
        }
    }
}

impl Shared {
    fn perform(
        &mut self,
        form: &BTreeMap<String, String>,
    ) -> Result<String, (&'static str, &'static str)> {
        if !self.known {
            return Err((
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            ));
        }
        let role = form.get("RoleName").cloned().unwrap_or_default();
        let gone = ("NoSuchEntity", "The role cannot be found.");
        let there = |result: Option<bool>| result.map(|_| String::new()).ok_or(gone);
        match form["Action"].as_str() {
            "GetCallerIdentity" => {
                let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/operator/session");
                Ok(result(
                    "GetCallerIdentity",
                    &format!("<Arn>{arn}</Arn><UserId>u</UserId><Account>{ACCOUNT}</Account>"),
                ))
            }
            "CreateRole" => {
                assert!(
                    form["AssumeRolePolicyDocument"].contains("sts:AssumeRole"),
                    "{form:?}"
                );
                self.created += 1;
                self.seen.insert(role.clone());
                match self.roles.insert(role, false) {
                    None => Ok(String::new()),
                    Some(_) => Err(("EntityAlreadyExists", "The role exists.")),
                }
            }
            "PutRolePolicy" => {
                assert!(
                    form["PolicyDocument"].contains(":key/"),
                    "a role may use the keys of a rehearsal only: {form:?}"
                );
                there(
                    self.roles
                        .get_mut(&role)
                        .map(|allowed| std::mem::replace(allowed, true)),
                )
            }
            "DeleteRolePolicy" => there(
                self.roles
                    .get_mut(&role)
                    .and_then(|allowed| std::mem::replace(allowed, false).then_some(true)),
            ),
            "DeleteRole" => match self.roles.remove(&role) {
                Some(true) => Err(("DeleteConflict", "The role has a policy.")),
                other => there(other),
            },
            "AssumeRole" => self.assume(&form["RoleArn"]),
            _ => Err(("InvalidAction", "There is no such action.")),
        }
    }

    /// Registers a principal with the KMS.
    fn credentials(&self, arn: &str, token: &str) -> (String, String) {
        let (id, secret) = (
            format!("ASIA{}", &random_secret().to_uppercase()[..16]),
            random_secret()[..40].to_owned(),
        );
        let mut principals: Value =
            serde_json::from_slice(&std::fs::read(&self.principals).unwrap()).unwrap();
        principals["principals"].as_array_mut().unwrap().push(json!({
            "access_key_id": id, "secret_access_key": secret, "session_token": token, "principal_arn": arn,
        }));
        // The KMS reads the file for each call: never half of it.
        let next = self.principals.with_extension("next");
        std::fs::write(&next, principals.to_string()).unwrap();
        std::fs::rename(next, &self.principals).unwrap();
        (id, secret)
    }

    fn assume(&self, arn: &str) -> Result<String, (&'static str, &'static str)> {
        let known = self.roles.keys().any(|name| role_arn(name) == arn);
        if !known {
            return Err(("AccessDenied", "not authorized to perform: sts:AssumeRole"));
        }
        let token = random_secret();
        let (id, secret) = self.credentials(arn, &token);
        Ok(result(
            "AssumeRole",
            &format!(
                "<Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            ),
        ))
    }
}

fn result(action: &str, xml: &str) -> String {
    format!("<{action}Response><{action}Result>{xml}</{action}Result></{action}Response>")
}
