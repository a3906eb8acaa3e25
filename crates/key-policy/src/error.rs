//! Errors of parsing, evaluating and rendering policies.

/// A policy or a request that the evaluation does not support.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON, or with a duplicate member.
    #[error("the policy is not strict JSON")]
    Json(#[source] serde_json::Error),
    /// The policy holds something outside the closed subset.
    #[error("the policy holds at `{at}`: {problem}")]
    Unsupported {
        /// JSON pointer.
        at: String,
        /// The unsupported element.
        problem: &'static str,
    },
    /// The request's principal is not an IAM ARN of its account.
    #[error("`{0}` is not an IAM principal of the request's account")]
    Principal(String),
    /// The request's context holds a key that KMS does not set, or that the evaluator sets itself.
    #[error("the request's context cannot hold `{0}`")]
    ContextKey(String),
    /// Several values for one key of the request's context.
    #[error("the request's context holds several values for `{0}`")]
    ManyValues(String),
}

/// A deployment that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The partition is empty or holds something else than lower-case letters and hyphens.
    #[error("`{0}` is not an AWS partition")]
    Partition(String),
    /// The account is not twelve digits.
    #[error("`{0}` is not an AWS account id")]
    Account(String),
    /// Not the exact ARN of a role in the deployment's account.
    #[error("`{0}` is not the ARN of a role in the deployment's own account")]
    Role(String),
    /// Two slots of the policy hold the same image, which would give it the rights of both.
    #[error("the {0} and the {1} have the same PCR0")]
    SameImage(&'static str, &'static str),
    /// The present release could never be removed from the policy.
    #[error("the locked form admits one release only")]
    NextInLockedForm,
    /// An unknown placeholder of the template.
    #[error("the template holds the unknown placeholder `{0}`")]
    Placeholder(String),
}
