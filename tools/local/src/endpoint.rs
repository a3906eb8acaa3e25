//! The variables and instructions with which a running stack is called: written to
//! `endpoint.env`, and printed by `up`.

use std::path::PathBuf;

use cloister_contract::Service;

use crate::data_dir::ENDPOINT_FILE;
use crate::stack::{CHAIN_ID, FUNCTION, Stack};

/// The contents of `endpoint.env`: one `NAME=value` per line, which a shell and dotenv libraries
/// read alike.
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
    let key = stack.front_door_key().expose().to_owned();
    lines.push(("CLOISTER_POD_KEY", key));
    lines
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value)))
        .collect()
}

/// The file while the stack runs: dropping this removes it.
#[derive(Debug)]
pub struct EndpointFile(PathBuf);

impl EndpointFile {
    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(stack: &Stack) -> anyhow::Result<Self> {
        stack
            .data()
            .write(ENDPOINT_FILE, variables(stack))
            .map(Self)
    }
}

impl Drop for EndpointFile {
    fn drop(&mut self) {
        // A file that is left behind is removed by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The text that `up` prints.
pub fn instructions(stack: &Stack) -> String {
    let caller = &stack.identities().caller;
    let (endpoint, region) = (stack.endpoint(), stack.region());
    let file = stack.data().path(ENDPOINT_FILE);
    let chain = stack
        .chain()
        .map(|chain| format!("chain        {} (chain id {CHAIN_ID})\n", chain.url()))
        .unwrap_or_default();
    format!(
        "\
endpoint     {endpoint}
region       {region}
{chain}function     {FUNCTION} (for direct invokes)
access key   {access_key}
secret key   {secret_key}
token        {token}
data         {data}
logs         {logs}

{file} has these as variables. A first key:

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

/// A value as a shell and dotenv libraries read it: as it is, or in quotes.
fn quoted(value: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "_./:@%+=,-".contains(character);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else if value.contains('\'') {
        let mut escaped = String::new();
        for character in value.chars() {
            if "\\\"$`".contains(character) {
                escaped.push('\\');
            }
            escaped.push(character);
        }
        format!("\"{escaped}\"")
    } else {
        format!("'{value}'")
    }
}

const EXAMPLE_SECRET: &str = "a-secret-of-your-own-choosing";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_value_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("endpoint.env");
        for value in [
            "",
            "http://127.0.0.1:8750",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "/tmp/a b/pki/ca.pem",
            "/tmp/$HOME/`id`/\"x\"/ä;&|#*",
            "/tmp/it's \"$HOME\" `id` \\ here",
        ] {
            std::fs::write(&file, format!("VALUE={}\n", quoted(value))).unwrap();
            let output = Command::new("/bin/sh")
                .args(["-c", ". \"$0\" && printf %s \"$VALUE\""])
                .arg(&file)
                .output()
                .unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{value}"
            );
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
        assert_eq!(quoted("http://127.0.0.1:8750"), "http://127.0.0.1:8750");
    }
}
