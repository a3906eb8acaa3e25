//! An AWS on loopback: an account as `cargo aws` sees it, with stacks whose states change, and
//! faults.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const KEY_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// The server; it lives as long as the test's process.
pub(crate) struct Aws {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// The account.
pub(crate) struct State {
    pub(crate) account: &'static str,
    pub(crate) opt_in: &'static str,
    pub(crate) machine_types: &'static str,
    pub(crate) quota: f64,
    pub(crate) key_state: &'static str,
    pub(crate) admitted: &'static str,
    pub(crate) stacks: BTreeMap<String, Stack>,
    /// The operation, the code, and how often.
    pub(crate) faults: Vec<(&'static str, &'static str, u32)>,
    /// Stacks whose next deployment or destruction fails, with how.
    pub(crate) failures: Vec<(&'static str, Failure)>,
    /// A base stack left its table, which is protected: it can be adopted only.
    pub(crate) table_is_left: bool,
    /// Of the secret with the pods' certificate: none, it is there, or its deletion is scheduled.
    pub(crate) secret: Option<Secret>,
    /// Every operation, in order.
    pub(crate) calls: Vec<String>,
    events: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// CloudFormation fails and leaves this status.
    Stack(&'static str),
    /// The CDK fails before CloudFormation begins.
    Cdk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    There,
    Deleted,
}

/// A stack.
#[derive(Default)]
pub(crate) struct Stack {
    pub(crate) status: &'static str,
    /// Times that it is still seen at work.
    pub(crate) busy: u32,
    /// XML, newest first.
    events: Vec<String>,
}

impl Aws {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            account: ACCOUNT,
            opt_in: "opt-in-not-required",
            machine_types: "<item><instanceType>m6i.2xlarge</instanceType><vCpuInfo>\
                            <defaultVCpus>8</defaultVCpus></vCpuInfo></item>",
            quota: 64.0,
            key_state: "Enabled",
            admitted: "aa bb",
            stacks: BTreeMap::new(),
            faults: Vec::new(),
            failures: Vec::new(),
            table_is_left: false,
            secret: None,
            calls: Vec::new(),
            events: 0,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(stream.unwrap(), &shared));
            }
        });
        Self { port, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The number of calls of an operation.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        let state = self.state();
        state.calls.iter().filter(|call| *call == operation).count()
    }
}

impl State {
    pub(crate) fn has(&mut self, name: &str, status: &'static str) {
        self.stacks.entry(name.to_owned()).or_default().status = status;
    }

    /// The effect of the CDK's command for a stack.
    fn cdk(&mut self, verb: &str, name: &str, words: &[&str]) -> u8 {
        let name = if verb == "bootstrap" {
            "CDKToolkit"
        } else {
            name
        };
        let failure = self.failures.iter().position(|(stack, _)| *stack == name);
        let failure = failure.map(|index| self.failures.remove(index).1);
        if failure == Some(Failure::Cdk) {
            return 1;
        }
        let exists = self.stacks.contains_key(name);
        let begins = match (verb, exists) {
            ("destroy", _) => "DELETE_IN_PROGRESS",
            (_, true) => "UPDATE_IN_PROGRESS",
            (_, false) => "CREATE_IN_PROGRESS",
        };
        self.event(
            name,
            name,
            "AWS::CloudFormation::Stack",
            begins,
            "User Initiated",
        );
        if verb == "deploy" && self.table_is_left && name.ends_with("-base") {
            let table = "AWS::DynamoDB::Table";
            if !words.contains(&"--import-existing-resources") {
                self.event(name, "Table", table, "CREATE_FAILED", "already exists");
                self.has(name, "ROLLBACK_COMPLETE");
                return 1;
            }
            self.table_is_left = false;
        }
        if let Some(Failure::Stack(status)) = failure {
            let (nodes, kind) = ("Nodes", "AWS::EKS::Nodegroup");
            self.event(
                name,
                nodes,
                kind,
                "CREATE_FAILED",
                "Your account has no quota.",
            );
            let cancelled = "Resource creation cancelled";
            self.event(
                name,
                "Zone",
                "AWS::Route53::HostedZone",
                "CREATE_FAILED",
                cancelled,
            );
            self.has(name, status);
            return 1;
        }
        if verb == "destroy" {
            self.stacks.remove(name);
        } else {
            self.has(
                name,
                if exists {
                    "UPDATE_COMPLETE"
                } else {
                    "CREATE_COMPLETE"
                },
            );
        }
        0
    }

    fn event(&mut self, stack: &str, resource: &str, kind: &str, status: &str, reason: &str) {
        self.events += 1;
        let id = format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack}/1");
        let physical = if resource == stack { &id } else { resource };
        let event = format!(
            "<member><EventId>{}</EventId><StackId>{id}</StackId><StackName>{stack}</StackName>\
             <LogicalResourceId>{resource}</LogicalResourceId>\
             <PhysicalResourceId>{physical}</PhysicalResourceId>\
             <ResourceType>{kind}</ResourceType><Timestamp>2027-01-01T00:00:00Z</Timestamp>\
             <ResourceStatus>{status}</ResourceStatus>\
             <ResourceStatusReason>{reason}</ResourceStatusReason></member>",
            self.events
        );
        let stack = self.stacks.entry(stack.to_owned()).or_default();
        stack.events.insert(0, event);
    }

    fn fault(&mut self, operation: &str) -> Option<&'static str> {
        let (_, code, left) = self
            .faults
            .iter_mut()
            .find(|(faulty, _, left)| *faulty == operation && *left > 0)?;
        *left -= 1;
        Some(code)
    }
}

/// A request as far as it matters.
struct Request {
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    fn read(reader: &mut impl std::io::BufRead) -> Option<Self> {
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .ok()
            .filter(|length| *length > 0)?;
        let target = line.split(' ').nth(1)?.to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers
            .get("content-length")
            .map_or(Ok(0), |text| text.parse());
        let mut body = vec![0; length.ok()?];
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            target,
            headers,
            body: String::from_utf8(body).ok()?,
        })
    }

    /// A parameter of AWS's query protocol.
    fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }

    fn operation(&self) -> String {
        let json = self.headers.get("x-amz-target");
        let json = json.and_then(|target| target.rsplit('.').next());
        let named = json.or_else(|| self.parameter("Action"));
        match (named, self.target.as_str()) {
            (Some(operation), _) => operation.to_owned(),
            (None, "/account") => "GetAccount".to_owned(),
            (None, path) if path.starts_with("/clusters") => "ListClusters".to_owned(),
            (None, path) if path.contains("object-lock") => "GetObjectLock".to_owned(),
            (None, _) => "ListBuckets".to_owned(),
        }
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = Request::read(&mut reader) {
        let (status, body) = respond(&request, &mut state.lock().unwrap());
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream
            .write_all(format!("{head}{body}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn respond(request: &Request, state: &mut State) -> (u16, String) {
    if let Some(words) = request.headers.get("x-cdk") {
        let words: Vec<_> = words.split(' ').collect();
        return (200, state.cdk(words[0], words[1], &words).to_string());
    }
    if request.target == "/prod/generate_key" {
        let header = |name: &str| request.headers[name].as_str();
        let signed = header("authorization");
        let scope = format!("/{REGION}/execute-api/aws4_request");
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=retirement/"),
            "{signed}"
        );
        assert!(signed.contains(&scope), "{signed}");
        assert!(signed.contains("x-amz-security-token"), "{signed}");
        assert_eq!(header("x-amz-security-token"), "c==");
        // Nobody else knows it: a text that stands in a page would be a key that everybody can use.
        let secret = request.body.strip_prefix(r#"{"secret":""#);
        let secret = secret.and_then(|body| body.strip_suffix(r#""}"#)).unwrap();
        let random = secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(random, "{}", request.body);
        return (200, "a new key".to_owned());
    }
    let operation = request.operation();
    state.calls.push(operation.clone());
    if let Some(code) = state.fault(&operation) {
        let message = match code {
            "InvalidInput" => "Service role name X has been taken in this account",
            _ => "User: arn:aws:iam::123456789012:user/a did wrong",
        };
        return error(request, code, message);
    }
    let stack = request
        .parameter("StackName")
        .unwrap_or_default()
        .to_owned();
    assert!(
        request.parameter("StackName") != Some(""),
        "{}",
        request.body
    );
    let body = match operation.as_str() {
        "GetCallerIdentity" => xml(
            &operation,
            &format!(
                "<Arn>arn:aws:iam::{0}:user/a</Arn><UserId>A</UserId><Account>{0}</Account>",
                state.account
            ),
        ),
        "DescribeRegions" => ec2(
            &operation,
            &format!(
                "<regionInfo><item><regionName>{REGION}</regionName>\
                 <optInStatus>{}</optInStatus></item></regionInfo>",
                state.opt_in
            ),
        ),
        "DescribeInstanceTypes" => ec2(
            &operation,
            &format!("<instanceTypeSet>{}</instanceTypeSet>", state.machine_types),
        ),
        "DescribeVpcs" => ec2(
            &operation,
            "<vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet>",
        ),
        "DescribeAddresses" => ec2(&operation, "<addressesSet/>"),
        "ListClusters" => r#"{"clusters":[]}"#.to_owned(),
        "GetServiceQuota" => format!(r#"{{"Quota":{{"Value":{:?}}}}}"#, state.quota),
        "DescribeStacks" => match state.stacks.get_mut(&stack) {
            None => {
                let message = format!("Stack with id {stack} does not exist");
                return error(request, "ValidationError", &message);
            }
            Some(found) => {
                let status = match found.busy.checked_sub(1) {
                    Some(left) => {
                        found.busy = left;
                        "UPDATE_IN_PROGRESS"
                    }
                    None => found.status,
                };
                let created = "<CreationTime>2027-01-01T00:00:00Z</CreationTime>";
                xml(
                    &operation,
                    &format!(
                        "<Stacks><member><StackName>{stack}</StackName>{created}\
                         <StackStatus>{status}</StackStatus></member></Stacks>"
                    ),
                )
            }
        },
        "DescribeStackEvents" => match state.stacks.get(&stack) {
            None => {
                let message = format!("Stack [{stack}] does not exist");
                return error(request, "ValidationError", &message);
            }
            Some(found) => xml(
                &operation,
                &format!("<StackEvents>{}</StackEvents>", found.events.concat()),
            ),
        },
        "DeleteStack" => {
            let deleted = state.stacks.remove(&stack).unwrap();
            // Roles of fixed names would be left as well, and no rollback would take them.
            assert_ne!(deleted.status, "CREATE_FAILED", "{stack}");
            state.table_is_left |= deleted.status == "ROLLBACK_FAILED";
            xml(&operation, "")
        }
        "RollbackStack" => {
            let is_base = stack.ends_with("-base");
            match state.stacks[&stack].status {
                "UPDATE_FAILED" => state.has(&stack, "UPDATE_ROLLBACK_COMPLETE"),
                "CREATE_FAILED" if is_base => state.has(&stack, "ROLLBACK_FAILED"),
                "CREATE_FAILED" => drop(state.stacks.remove(&stack)),
                status => panic!("{stack} is {status}"),
            }
            xml(&operation, "")
        }
        "UpdateTerminationProtection" => xml(&operation, ""),
        "DescribeStackResources" => xml(
            &operation,
            "<StackResources><member><LogicalResourceId>T</LogicalResourceId>\
             <ResourceType>AWS::ElasticLoadBalancingV2::TargetGroup</ResourceType>\
             <PhysicalResourceId>arn:target-group</PhysicalResourceId>\
             <ResourceStatus>CREATE_COMPLETE</ResourceStatus>\
             <Timestamp>2027-01-01T00:00:00Z</Timestamp></member></StackResources>",
        ),
        "DescribeTargetHealth" => xml(
            &operation,
            "<TargetHealthDescriptions><member><TargetHealth><State>healthy</State>\
             </TargetHealth></member></TargetHealthDescriptions>",
        ),
        "GetParameter" => {
            let value = match request.body.contains("key_id") {
                true => KEY_ID,
                false => "https://api.example/prod/",
            };
            format!(r#"{{"Parameter":{{"Value":"{value}"}}}}"#)
        }
        "GetKeyPolicy" => format!(r#"{{"Policy":"{}"}}"#, state.admitted),
        "DescribeKey" => format!(
            r#"{{"KeyMetadata":{{"KeyId":"{KEY_ID}","KeyState":"{}","DeletionDate":1800000000}}}}"#,
            state.key_state
        ),
        "GetResources" => format!(
            r#"{{"ResourceTagMappingList":[{{"ResourceARN":"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY_ID}"}}]}}"#
        ),
        "AssumeRole" => xml(
            &operation,
            "<Credentials><AccessKeyId>retirement</AccessKeyId>\
             <SecretAccessKey>b/+=</SecretAccessKey><SessionToken>c==</SessionToken>\
             <Expiration>2037-01-01T00:00:00Z</Expiration></Credentials>",
        ),
        "ScheduleKeyDeletion" => {
            let signed = request.headers.get("authorization").unwrap();
            assert!(signed.contains("Credential=retirement/"), "{signed}");
            assert!(
                request.body.contains("\"PendingWindowInDays\": 30"),
                "{}",
                request.body
            );
            state.key_state = "PendingDeletion";
            "{}".to_owned()
        }
        "CreateServiceLinkedRole" => xml(&operation, "<Role></Role>"),
        "DescribeSecret" => match state.secret {
            None => return error(request, "ResourceNotFoundException", "none"),
            Some(Secret::There) => r#"{"Name":"dev-cloister-pod-tls"}"#.to_owned(),
            Some(Secret::Deleted) => r#"{"DeletedDate":1800000000}"#.to_owned(),
        },
        "RestoreSecret" => {
            assert_eq!(state.secret, Some(Secret::Deleted));
            state.secret = Some(Secret::There);
            "{}".to_owned()
        }
        "CreateSecret" => {
            assert_eq!(state.secret, None);
            state.secret = Some(Secret::There);
            "{}".to_owned()
        }
        "GetAccount" => r#"{"cloudwatchRoleArn":"arn:dev-cloister-base-ApiLogs"}"#.to_owned(),
        "ListBuckets" => "<ListAllMyBucketsResult><Buckets><Bucket><Name>dev-cloister-journal\
                          </Name></Bucket></Buckets></ListAllMyBucketsResult>"
            .to_owned(),
        "GetObjectLock" => "<ObjectLockConfiguration><Rule><DefaultRetention>\
                            <Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>\
                            </ObjectLockConfiguration>"
            .to_owned(),
        "DescribeLogGroups" => {
            r#"{"logGroups":[{"logGroupName":"/x/dev-cloister-a","storedBytes":7}]}"#.to_owned()
        }
        other => panic!("{other}: {}", request.body),
    };
    (200, body)
}

fn xml(operation: &str, result: &str) -> String {
    format!(
        "<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"
    )
}

fn ec2(operation: &str, result: &str) -> String {
    format!("<{operation}Response>{result}</{operation}Response>")
}

fn error(request: &Request, code: &str, message: &str) -> (u16, String) {
    let one = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let body = if request.headers.contains_key("x-amz-target") {
        format!(r#"{{"__type":"{code}","message":"{message}"}}"#)
    } else if request.body.contains("Version=2016-11-15") {
        format!("<Response><Errors>{one}</Errors><RequestID>1</RequestID></Response>")
    } else {
        format!("<ErrorResponse>{one}<RequestId>1</RequestId></ErrorResponse>")
    };
    (400, body)
}
