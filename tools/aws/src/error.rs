//! Failures with a known cause: one sentence each, with the next step.

/// A failure that the operator can do something about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option or its variable is missing or malformed.
    #[error("{option} is {value}: give {expected}")]
    Option {
        /// The option, and the variable in place of it.
        option: &'static str,
        /// The value.
        value: String,
        /// The remedy.
        expected: &'static str,
    },
    /// Images are built with Debian's packages.
    #[error(
        "this machine is not a Debian or a relative of it on x86-64, on which images can be built: \
         use one, or a container of the image `debian`"
    )]
    NotDebian,
    /// Container images are built with dnf.
    #[error(
        "the container images can be built by root alone: run the command as root, or push images \
         that were built elsewhere and name them with CDK_POD_IMAGES (of a next release with \
         CDK_NEXT_POD_IMAGES)"
    )]
    NotRoot,
    /// No credentials at all.
    #[error("there are no AWS credentials: set AWS_PROFILE, or run `aws configure` or `aws login`")]
    NoCredentials,
    /// They were valid once.
    #[error(
        "the AWS credentials have expired: get new ones (`aws sso login`), then repeat the command"
    )]
    CredentialsExpired,
    /// AWS does not know them.
    #[error(
        "AWS refuses the credentials ({code}): check AWS_ACCESS_KEY_ID, AWS_PROFILE and the clock"
    )]
    CredentialsInvalid {
        /// AWS's code.
        code: String,
    },
    /// The credentials are for another account than `--account`.
    #[error(
        "the credentials are of account {actual}, and --account is {expected}: \
         choose other credentials with AWS_PROFILE, or correct --account"
    )]
    WrongAccount {
        /// `--account`
        expected: String,
        /// Of the credentials.
        actual: String,
    },
    /// IAM, or an organisation's policy.
    #[error(
        "{principal} may not call {operation}: allow it, or use credentials that may ({message})"
    )]
    NotPermitted {
        /// AWS's operation.
        operation: String,
        /// As AWS names it.
        principal: String,
        /// AWS's text.
        message: String,
    },
    /// There is no such region.
    #[error("{region} is no region of AWS: correct --region")]
    UnknownRegion {
        /// `--region`
        region: String,
    },
    /// A region that an account has to opt in to.
    #[error(
        "the account has not enabled the region {region}: \
         `aws account enable-region --region-name {region}`, wait some minutes, then repeat"
    )]
    RegionNotEnabled {
        /// `--region`
        region: String,
    },
    /// The region lacks something.
    #[error("{region} has no {what}: choose another --region{remedy}")]
    RegionLacks {
        /// `--region`
        region: String,
        /// The service or the type of machine.
        what: String,
        /// Another way, or nothing.
        remedy: &'static str,
    },
    /// A quota that the deployment would exceed.
    #[error(
        "the quota `{name}` is {limit} in {region}, and {needed} are needed besides {used} in use: \
         `aws service-quotas request-service-quota-increase --service-code {service} \
         --quota-code {quota} --desired-value {desired}`"
    )]
    Quota {
        /// AWS's name of the quota.
        name: &'static str,
        /// Its service.
        service: &'static str,
        /// Its code.
        quota: &'static str,
        /// `--region`
        region: String,
        /// Its value.
        limit: u64,
        /// In use, as far as it is known.
        used: u64,
        /// The deployment's share.
        needed: u64,
        /// The value to ask for.
        desired: u64,
    },
    /// `CDK_IMAGES` names images with other settings.
    #[error(
        "the images in {directory} are measured for {found}, and this deployment is {expected}: \
         unset CDK_IMAGES to build images, or name this deployment's"
    )]
    OtherImages {
        /// `CDK_IMAGES`
        directory: String,
        /// Of the images.
        found: String,
        /// Of the options.
        expected: String,
    },
    /// Images that the deployed key does not admit, in production.
    #[error(
        "the key does not admit the images in {directory}, and the pods that run would be denied \
         it until they are replaced: update in the steps of \
         docs/operate.md#with-new-measurements, with CDK_IMAGES and CDK_NEXT_IMAGES"
    )]
    OtherRelease {
        /// Of the images.
        directory: String,
    },
    /// CloudFormation failed, and says why.
    #[error(
        "the stack {stack} failed ({status}): {resource} ({kind}) {reason}; \
         {next}"
    )]
    StackFailed {
        /// Its name.
        stack: String,
        /// Its status now.
        status: String,
        /// Logical id of the first resource that failed.
        resource: String,
        /// Its type.
        kind: String,
        /// AWS's text.
        reason: String,
        /// The next step.
        next: String,
    },
    /// A stack is in a state from which nothing but a decision of the operator leads.
    #[error("the stack {stack} is {status}: {next}")]
    StackStuck {
        /// Its name.
        stack: String,
        /// Its status.
        status: String,
        /// The next step.
        next: String,
    },
    /// `down` of one platform, where another one is deployed.
    #[error(
        "the stack {stack} exists, which CDK_VARIANT={chosen} does not have: run `cargo aws down` \
         with CDK_VARIANT={other} first"
    )]
    OtherPlatform {
        /// Its name.
        stack: String,
        /// `CDK_VARIANT`, or its default.
        chosen: &'static str,
        /// The variant that has it.
        other: &'static str,
    },
    /// Something takes longer than it may.
    #[error("{what} took longer than {minutes} min: {next}")]
    TimedOut {
        /// The step.
        what: String,
        /// The limit.
        minutes: u64,
        /// The next step.
        next: String,
    },
    /// The typed key id is another one.
    #[error("the key is {expected}, and `{given}` was typed: nothing has been removed")]
    NotConfirmed {
        /// The key's id.
        expected: String,
        /// The typed text.
        given: String,
    },
    /// No network, a proxy, or a service that the region does not have.
    #[error("failed to reach {endpoint}: check the network, the proxy and --region")]
    Unreachable {
        /// AWS's URL.
        endpoint: String,
    },
    /// After all attempts.
    #[error(
        "AWS still throttles {operation} after all attempts: wait a minute, then repeat the command"
    )]
    Throttled {
        /// AWS's operation.
        operation: String,
    },
    /// Any other error of AWS.
    #[error("{operation} failed: {code}: {message}")]
    Aws {
        /// AWS's operation, or the command.
        operation: String,
        /// AWS's code; empty if the tool itself failed.
        code: String,
        /// AWS's text.
        message: String,
    },
    /// Another program failed; its own output says why.
    #[error("{status}: {command}")]
    Command {
        /// The line.
        command: String,
        /// Its exit status.
        status: String,
    },
}

/// AWS's code of an error without a variant of its own; empty for every other error.
pub(crate) fn code(error: &anyhow::Error) -> &str {
    match error.downcast_ref() {
        Some(Error::Aws { code, .. }) => code,
        _ => "",
    }
}

/// The failure that the AWS command-line tool printed.
pub(crate) fn of_aws(words: &[String], stderr: &str) -> Error {
    let text = stderr.trim();
    let has = |part: &str| text.contains(part);
    let Some((code, operation, message)) = parts(text) else {
        if has("Unable to locate credentials") || has("No AWS credentials") {
            return Error::NoCredentials;
        }
        if has("SSO") && (has("expired") || has("refresh failed")) || has("session has expired") {
            return Error::CredentialsExpired;
        }
        if let Some((_, endpoint)) = text.split_once("endpoint URL: ") {
            let endpoint = endpoint.lines().next().unwrap_or_default();
            let endpoint = endpoint.trim_matches('"').to_owned();
            return Error::Unreachable { endpoint };
        }
        return Error::Aws {
            operation: words.iter().take(3).cloned().collect::<Vec<_>>().join(" "),
            code: String::new(),
            message: text.lines().last().unwrap_or_default().to_owned(),
        };
    };
    let (operation, message) = (operation.to_owned(), message.to_owned());
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => Error::CredentialsExpired,
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature" => Error::CredentialsInvalid {
            code: code.to_owned(),
        },
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "AuthorizationError"
        | "403" => Error::NotPermitted {
            principal: principal(&message),
            operation,
            message,
        },
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestThrottled"
        | "SlowDown" => Error::Throttled { operation },
        _ => Error::Aws {
            operation,
            code: code.to_owned(),
            message,
        },
    }
}

/// Code, operation and message of `An error occurred (CODE) when calling the OPERATION operation
/// (reached max retries: 4): MESSAGE`.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = text.split_once("An error occurred (")?;
    let (code, rest) = rest.split_once(") when calling the ")?;
    let (operation, rest) = rest.split_once(" operation")?;
    let message = match rest.strip_prefix(" (reached max retries") {
        Some(rest) => rest.split_once("):")?.1,
        // Some errors have no message.
        None => rest.strip_prefix(':')?,
    };
    let message = message.lines().next().unwrap_or_default().trim();
    Some((code, operation, message))
}

/// AWS begins with `User: ARN is not authorized`.
fn principal(message: &str) -> String {
    let arn = message
        .split_whitespace()
        .find(|word| word.starts_with("arn:"));
    arn.unwrap_or("this principal").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_texts_are_understood() {
        let of = |text: &str| of_aws(&["aws".into(), "sts".into(), "x".into()], text);
        let says = |code: &str, message: &str| {
            of(&format!(
                "\naws: [ERROR]: An error occurred ({code}) when calling the X operation \
                 (reached max retries: 9): {message}\n"
            ))
        };
        assert_eq!(
            of("Unable to locate credentials. You can configure credentials …"),
            Error::NoCredentials
        );
        assert_eq!(
            of("The SSO session associated with this profile has expired or is otherwise invalid."),
            Error::CredentialsExpired
        );
        assert_eq!(
            of("Could not connect to the endpoint URL: \"https://eks.xx.amazonaws.com/\""),
            Error::Unreachable {
                endpoint: "https://eks.xx.amazonaws.com/".into()
            }
        );
        assert_eq!(says("ExpiredToken", "x"), Error::CredentialsExpired);
        assert_eq!(
            says("Throttling", "Rate exceeded"),
            Error::Throttled {
                operation: "X".into()
            }
        );
        assert_eq!(
            says(
                "AccessDenied",
                "User: arn:aws:iam::1:user/a is not authorized to perform: x"
            ),
            Error::NotPermitted {
                operation: "X".into(),
                principal: "arn:aws:iam::1:user/a".into(),
                message: "User: arn:aws:iam::1:user/a is not authorized to perform: x".into(),
            }
        );
        assert_eq!(
            says("ValidationError", "no: such"),
            Error::Aws {
                operation: "X".into(),
                code: "ValidationError".into(),
                message: "no: such".into(),
            }
        );
    }
}
