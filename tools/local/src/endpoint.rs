//! What a caller needs to know of a running stack: printed by `up`, and written to `endpoint.env`.

use std::path::PathBuf;

use crate::service::Service;
use crate::stack::Stack;

/// Name of the file in the data directory. It is there exactly while the stack answers.
pub const FILE: &str = "endpoint.env";

/// The contents of `endpoint.env`: one `NAME=value` per line, as a shell and every dotenv library
/// read it. No value needs quotes.
pub fn variables(stack: &Stack) -> String {
    let mut lines = vec![("CLOISTER_ENDPOINT", stack.endpoint())];
    lines.extend(
        stack
            .chain()
            .map(|chain| ("CLOISTER_CHAIN_RPC", chain.url().to_owned())),
    );
    lines.push(("AWS_REGION", stack.region().to_owned()));
    lines.extend(
        stack
            .identities()
            .caller
            .variables()
            .map(|(name, value)| (name, value.to_owned())),
    );
    // For another front door than the stack's own.
    let pod = |service| format!("https://{}", stack.pod_address(service));
    lines.push(("CLOISTER_SIGNER_URL", pod(Service::Signer)));
    lines.push(("CLOISTER_KEY_GENERATOR_URL", pod(Service::KeyGenerator)));
    lines.push((
        "CLOISTER_POD_CA_FILE",
        stack.data().path("pki/ca.pem").display().to_string(),
    ));
    lines
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

/// The file, as long as it is meant to be there: dropping this removes it.
#[derive(Debug)]
pub struct EndpointFile(PathBuf);

impl EndpointFile {
    /// Writes the file of a stack that answers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(stack: &Stack) -> anyhow::Result<Self> {
        stack.data().write(FILE, variables(stack)).map(Self)
    }
}

impl Drop for EndpointFile {
    fn drop(&mut self) {
        // What is left behind is removed by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What `up` prints.
pub fn instructions(stack: &Stack) -> String {
    let caller = &stack.identities().caller;
    let (endpoint, region) = (stack.endpoint(), stack.region());
    let file = stack.data().path(FILE);
    let chain = stack
        .chain()
        .map(|chain| format!("chain        {}\n", chain.url()))
        .unwrap_or_default();
    format!(
        "\
endpoint     {endpoint}
region       {region}
{chain}access key   {access_key}
secret key   {secret_key}
token        {token}
data         {data}
logs         {logs}

The same stands in {file}. A first key:

  curl --aws-sigv4 aws:amz:{region}:execute-api --user '{access_key}:{secret_key}' \\
    -H 'x-amz-security-token: {token}' -H 'content-type: application/json' \\
    -d '{{\"secret\":\"{EXAMPLE_SECRET}\"}}' {endpoint}/generate_key

Or, with the variables of that file set:

  awscurl --service execute-api --region {region} -X POST \\
    -d '{{\"secret\":\"{EXAMPLE_SECRET}\"}}' {endpoint}/generate_key

Ctrl-C stops everything.",
        access_key = caller.access_key_id,
        secret_key = caller.secret_access_key,
        token = caller.session_token,
        data = stack.data().root().display(),
        logs = stack.data().logs().display(),
        file = file.display(),
    )
}

const EXAMPLE_SECRET: &str = "a-secret-of-your-own-choosing";
