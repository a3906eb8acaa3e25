//! Requests to the stand-in for AWS.

use std::collections::BTreeSet;

use cloister_client::{Client, Credentials};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde_json::{Value, json};

use crate::ministack::Ministack;

/// Access key and secret of the stand-in's own user, which has every permission.
pub(crate) const ROOT: &str = "test";
pub(crate) const ACCOUNT: &str = "000000000000";
pub(crate) const REGION: &str = "eu-central-1";

/// The stand-in, and its owner's requests.
pub(crate) struct Aws {
    ministack: Ministack,
    root: Client,
}

impl Aws {
    pub(crate) fn start() -> Self {
        let ministack = Ministack::start(true);
        let root = Credentials::new(ROOT, ROOT, None);
        let root = Client::new(&ministack.endpoint(), REGION, root, None).unwrap();
        Self { ministack, root }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.ministack.endpoint()
    }

    /// The URL of the only API.
    pub(crate) async fn api(&self) -> String {
        let list = ask(&self.root, "apigateway", &Question::Path("/restapis")).await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let id = list["item"][0]["id"].as_str().unwrap();
        format!("{}/restapis/{id}/prod/_user_request_", self.endpoint())
    }

    /// The names of this deployment's resources of each kind, and every key that can be used.
    pub(crate) async fn inventory(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (service, question) in LISTS {
            let list = ask(&self.root, service, question).await;
            let words = list.split(|character: char| {
                !(character.is_ascii_alphanumeric() || "-_/".contains(character))
            });
            for word in words.filter(|word| is_ours(service, word)) {
                if *service != "kms" || self.key_state(word).await != "PendingDeletion" {
                    found.insert(word.to_owned());
                }
            }
        }
        found
    }

    pub(crate) async fn key_state(&self, key_id: &str) -> String {
        let input = json!({ "KeyId": key_id }).to_string();
        let question = Question::Target("TrentService.DescribeKey", &input);
        let found: Value = serde_json::from_str(&ask(&self.root, "kms", &question).await).unwrap();
        let state = found["KeyMetadata"]["KeyState"].as_str();
        state.unwrap().to_owned()
    }

    /// The value of one of the deployment's parameters.
    pub(crate) async fn parameter(&self, name: &str) -> String {
        let input = json!({ "Name": format!("/test-app/ethereum/{name}") }).to_string();
        let question = Question::Target("AmazonSSM.GetParameter", &input);
        let found: Value = serde_json::from_str(&ask(&self.root, "ssm", &question).await).unwrap();
        found["Parameter"]["Value"].as_str().unwrap().to_owned()
    }

    /// The policy of the deployment's CMK.
    pub(crate) async fn key_policy(&self) -> String {
        let input = json!({ "KeyId": self.parameter("key_id").await, "PolicyName": "default" });
        let input = input.to_string();
        let question = Question::Target("TrentService.GetKeyPolicy", &input);
        let found: Value = serde_json::from_str(&ask(&self.root, "kms", &question).await).unwrap();
        found["Policy"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn schedule_key_deletion(&self, key_id: &str) {
        let input = json!({ "KeyId": key_id, "PendingWindowInDays": 30 }).to_string();
        let question = Question::Target("TrentService.ScheduleKeyDeletion", &input);
        ask(&self.root, "kms", &question).await;
    }

    /// Allows a stack to be deleted.
    pub(crate) async fn unprotect(&self, stack: &str) {
        let action = format!(
            "UpdateTerminationProtection&EnableTerminationProtection=false&StackName={stack}"
        );
        let question = Question::Versioned("2010-05-15", &action);
        ask(&self.root, "cloudformation", &question).await;
    }

    /// A user whose only permission is to assume the role that invokes the API, if the role's trust
    /// policy allows it.
    pub(crate) async fn create_user(&self) -> Credentials {
        let action = async |action: &str| ask(&self.root, "iam", &Question::Action(action)).await;
        action("CreateUser&UserName=backend").await;
        let policy: String = form_urlencoded::byte_serialize(ASSUME_ROLE.as_bytes()).collect();
        let put = "PutUserPolicy&UserName=backend&PolicyName=assume&PolicyDocument";
        action(&format!("{put}={policy}")).await;
        credentials(&action("CreateAccessKey&UserName=backend").await)
    }

    /// Credentials of the role that invokes the API.
    pub(crate) async fn assume_invoke_role(&self, user: Credentials) -> Credentials {
        let client = Client::new(&self.endpoint(), REGION, user, None).unwrap();
        let role = format!("arn:aws:iam::{ACCOUNT}:role/test-cloister-invoke");
        let assume = format!("AssumeRole&RoleSessionName=rehearsal&RoleArn={role}");
        credentials(&ask(&client, "sts", &Question::Action(&assume)).await)
    }
}

/// A request of one of the AWS protocols.
enum Question<'a> {
    Path(&'a str),
    /// JSON: the operation, and its input.
    Target(&'a str, &'a str),
    /// Query, of IAM and its relatives.
    Action(&'a str),
    /// Query, of an API's version.
    Versioned(&'a str, &'a str),
}

async fn ask(client: &Client, service: &str, question: &Question<'_>) -> String {
    let (method, path, body) = match question {
        Question::Path(path) => (Method::GET, *path, String::new()),
        Question::Target(_, input) => (Method::POST, "/", (*input).to_owned()),
        Question::Action(action) => query("2011-06-15", action),
        Question::Versioned(version, action) => query(version, action),
    };
    let mut request = client.request(method, path, body).unwrap();
    let headers = request.headers_mut();
    match question {
        Question::Path(_) => {}
        Question::Target(target, _) => {
            let json = HeaderValue::from_static("application/x-amz-json-1.1");
            headers.insert(CONTENT_TYPE, json);
            headers.insert("x-amz-target", HeaderValue::from_str(target).unwrap());
        }
        Question::Action(_) | Question::Versioned(..) => {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form);
        }
    }
    client.sign(&mut request, &client.scope(service)).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status, 200, "{service}: {}", response.text());
    response.text()
}

fn query(version: &str, action: &str) -> (Method, &'static str, String) {
    let body = format!("Version={version}&Action={action}");
    (Method::POST, "/", body)
}

/// The credentials in an XML response.
fn credentials(xml: &str) -> Credentials {
    let document = roxmltree::Document::parse(xml).unwrap();
    let text = |name: &str| {
        let mut elements = document.descendants();
        elements.find(|node| node.tag_name().name() == name)?.text()
    };
    let (access_key, secret) = (text("AccessKeyId"), text("SecretAccessKey"));
    Credentials::new(access_key.unwrap(), secret.unwrap(), text("SessionToken"))
}

fn is_ours(service: &str, word: &str) -> bool {
    let named = word.contains("test-cloister-") || word.starts_with("/test-app/");
    named || (service == "kms" && word.len() == 36)
}

/// The lists of every kind of resource that the app deploys.
const LISTS: &[(&str, Question<'static>)] = &[
    ("lambda", Question::Path("/2015-03-31/functions")),
    ("apigateway", Question::Path("/restapis")),
    ("s3", Question::Path("/")),
    (
        "logs",
        Question::Target("Logs_20140328.DescribeLogGroups", "{}"),
    ),
    (
        "ssm",
        Question::Target("AmazonSSM.DescribeParameters", r#"{"MaxResults": 50}"#),
    ),
    (
        "dynamodb",
        Question::Target("DynamoDB_20120810.ListTables", "{}"),
    ),
    ("kms", Question::Target("TrentService.ListKeys", "{}")),
    ("events", Question::Target("AWSEvents.ListRules", "{}")),
    ("iam", Question::Action("ListRoles")),
    ("sns", Question::Action("ListTopics")),
    ("monitoring", Question::Action("DescribeAlarms")),
    ("monitoring", Question::Action("ListDashboards")),
];

/// The stand-in requires this of a caller in the role's own account, where AWS accepts the role's
/// trust policy alone.
const ASSUME_ROLE: &str = r#"{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::000000000000:role/test-cloister-invoke"}
]}"#;
