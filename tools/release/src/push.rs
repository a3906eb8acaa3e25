//! `cargo xtask push`: the pods' container images from an OCI layout into a registry, without a
//! container engine.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use cloister_contract::Service;
use cloister_toolchain::cargo::target_directory;
use cloister_toolchain::command::{pipe, succeed};
use cloister_toolchain::sha256;
use cloister_toolchain::{aws, cache, debian};
use fs_err as fs;
use serde::Deserialize;

use crate::containers::PODS;
use crate::paths;

/// Options of `cargo xtask push`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Output of `cargo xtask containers --oci DIRECTORY`
    #[arg(long, value_name = "DIRECTORY", value_parser = paths::absolute)]
    layout: PathBuf,
    /// The repository for both images, such as
    /// 123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloister-pods
    #[arg(long, value_name = "URI")]
    repository: Repository,
}

/// Runs `cargo xtask push`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    println!("{}", push(&arguments.layout, &arguments.repository)?);
    Ok(())
}

/// Pushes the images of all services, each with every architecture of the layout, and returns their
/// names. An image that the repository has already is not pushed again: a repository with
/// immutable tags would refuse it.
///
/// # Errors
/// If the layout lacks an image, or the registry does not have it afterwards.
pub fn push(layout: &Path, repository: &Repository) -> Result<PodImages> {
    debian::require(&["skopeo"])?;
    let images = PodImages::of(layout, repository)?;
    // Credentials are kept for this command only.
    let credentials = target_directory().join("push").join("auth.json");
    let outcome = repository.log_in(&credentials).and_then(|logged_in| {
        let credentials = logged_in.then_some(credentials.as_path());
        images
            .0
            .iter()
            .try_for_each(|image| image.push(layout, credentials))
    });
    cache::remove_dir_all(&target_directory().join("push"))?;
    outcome.map(|()| images)
}

/// A repository of a registry: `HOST[:PORT]/PATH`, without tag and digest.
#[derive(Debug, Clone)]
pub struct Repository(String);

impl std::str::FromStr for Repository {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let (host, path) = text.split_once('/').unwrap_or_default();
        let (name, port) = host.split_once(':').unwrap_or((host, "443"));
        ensure!(
            !name.is_empty()
                && name.bytes().all(valid)
                && port.parse::<u16>().is_ok()
                && path
                    .split('/')
                    .all(|part| !part.is_empty() && part.bytes().all(valid)),
            "{text:?} is not a repository: give HOST/NAME without tag, digest and https://"
        );
        Ok(Self(text.to_owned()))
    }
}

impl Repository {
    fn host(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The region, if it belongs to Amazon's registry of an account.
    fn ecr_region(&self) -> Option<&str> {
        let (account, rest) = self.host().split_once(".dkr.ecr.")?;
        let (region, suffix) = rest.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        (is_account && matches!(suffix, "amazonaws.com" | "amazonaws.com.cn")).then_some(region)
    }

    /// Writes credentials of Amazon's registry into `file`; for other registries, skopeo uses those
    /// of the user's own `skopeo login`. The password passes through a pipe alone.
    fn log_in(&self, file: &Path) -> Result<bool> {
        let Some(region) = self.ecr_region() else {
            return Ok(false);
        };
        fs::create_dir_all(file.parent().expect("the file is in target"))?;
        let mut password = password(aws::command()?, region);
        pipe(&mut password, &mut log_in(self.host(), file)).with_context(|| {
            format!(
                "failed to log in to {}: are there AWS credentials?",
                self.host()
            )
        })?;
        Ok(true)
    }

    /// Plain HTTP on this machine's loopback, and nowhere else.
    fn verify_tls(&self) -> bool {
        let name = self.host().split(':').next().unwrap_or_default();
        !matches!(name, "127.0.0.1" | "localhost")
    }
}

fn password(mut aws: Command, region: &str) -> Command {
    aws.args(["ecr", "get-login-password", "--region", region]);
    aws
}

fn log_in(host: &str, file: &Path) -> Command {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["login", "--username", "AWS", "--password-stdin"]);
    skopeo.arg("--authfile").arg(file).arg(host);
    // Standard output is for the images' names.
    skopeo.stdout(Stdio::null());
    skopeo
}

/// The pods' container images in a registry. Displayed as the variable that CDK reads.
#[derive(Debug)]
pub struct PodImages(Vec<PodImage>);

impl PodImages {
    /// The variable's value.
    #[must_use]
    pub fn value(&self) -> String {
        let named = |image: &PodImage| format!("{}={}", image.service, image.by_digest());
        self.0.iter().map(named).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for PodImages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CDK_POD_IMAGES={}", self.value())
    }
}

#[derive(Debug)]
struct PodImage {
    service: Service,
    /// The image's name in the layout.
    program: &'static str,
    repository: Repository,
    /// `sha256:` and 64 digits.
    digest: String,
}

impl PodImages {
    /// Reads the digests from the layout's index.
    /// <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>
    fn of(layout: &Path, repository: &Repository) -> Result<Self> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: String,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        let path = layout.join("index.json");
        let text = fs::read(&path).context("`cargo xtask containers --oci DIRECTORY` writes it")?;
        let index: Index = serde_json::from_slice(&text)
            .with_context(|| format!("{} is malformed", path.display()))?;
        let images = PODS.iter().map(|(service, pod)| {
            let named = |descriptor: &&Descriptor| {
                descriptor.annotations.get(REFERENCE).map(String::as_str) == Some(pod.name)
            };
            let mut found = index.manifests.iter().filter(named);
            match (found.next(), found.next()) {
                (Some(Descriptor { digest, .. }), None) if is_sha256(digest) => Ok(PodImage {
                    service: *service,
                    program: pod.name,
                    repository: repository.clone(),
                    digest: digest.clone(),
                }),
                _ => Err(anyhow!(
                    "{} has to name exactly one {} with a SHA-256: build it with `cargo xtask \
                     containers --oci DIRECTORY`",
                    path.display(),
                    pod.name
                )),
            }
        });
        images.collect::<Result<_>>().map(Self)
    }
}

impl PodImage {
    fn by_digest(&self) -> String {
        format!("{}@{}", self.repository.0, self.digest)
    }

    /// The tag keeps the image from expiring as untagged; nothing is deployed by it.
    fn by_tag(&self) -> String {
        let digits = self.digest.trim_start_matches("sha256:");
        format!("{}:{}-{}", self.repository.0, self.service, &digits[..12])
    }

    fn push(&self, layout: &Path, credentials: Option<&Path>) -> Result<()> {
        if self.pushed(credentials).is_ok() {
            return Ok(());
        }
        succeed(&mut self.copy(layout, credentials))?;
        self.pushed(credentials)
    }

    fn copy(&self, layout: &Path, credentials: Option<&Path>) -> Command {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--all", "--preserve-digests"]);
        skopeo.arg(format!(
            "--dest-tls-verify={}",
            self.repository.verify_tls()
        ));
        if let Some(file) = credentials {
            skopeo.arg("--dest-authfile").arg(file);
        }
        skopeo.arg(format!("oci:{}:{}", layout.display(), self.program));
        skopeo.arg(format!("docker://{}", self.by_tag()));
        skopeo
    }

    /// Reads the image's index back and compares its hash.
    fn pushed(&self, credentials: Option<&Path>) -> Result<()> {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw"]);
        skopeo.arg(format!("--tls-verify={}", self.repository.verify_tls()));
        if let Some(file) = credentials {
            skopeo.arg("--authfile").arg(file);
        }
        skopeo.arg(format!("docker://{}", self.by_digest()));
        let read = skopeo.output().context("failed to run skopeo")?;
        if !read.status.success() {
            bail!(
                "the registry does not have {}: {}",
                self.by_digest(),
                String::from_utf8_lossy(&read.stderr).trim()
            );
        }
        let digest = format!("sha256:{}", sha256(&read.stdout));
        ensure!(
            digest == self.digest,
            "the registry answered {} with {digest}",
            self.by_digest()
        );
        Ok(())
    }
}

fn is_sha256(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// Pushes a layout into a registry on this machine, twice, and returns the images' names.
///
/// # Errors
/// If the registry does not have the layout's images.
pub fn check(layout: &Path) -> Result<PodImages> {
    debian::require(&["docker-registry"])?;
    let work = target_directory().join("registry");
    cache::remove_dir_all(&work)?;
    fs::create_dir_all(&work)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let configuration = work.join("config.yml");
    fs::write(
        &configuration,
        format!(
            "{{version: 0.1, log: {{level: error, accesslog: {{disabled: true}}}}, \
             storage: {{filesystem: {{rootdirectory: {}}}}}, http: {{addr: '127.0.0.1:{port}'}}}}",
            work.display()
        ),
    )?;
    // A push asks for what the registry does not have yet, which it logs as errors.
    let log = fs::File::create(work.join("registry.log"))?;
    let mut registry = Command::new("docker-registry")
        .arg("serve")
        .arg(&configuration)
        .stderr(log.into_file())
        .spawn()
        .context("failed to run docker-registry")?;
    let outcome = push_twice(layout, port);
    registry.kill()?;
    registry.wait()?;
    outcome
}

fn push_twice(layout: &Path, port: u16) -> Result<PodImages> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(
            Instant::now() < deadline,
            "the registry does not listen; its log is in {}",
            target_directory().join("registry").display()
        );
        thread::sleep(Duration::from_millis(50));
    }
    let repository = format!("127.0.0.1:{port}/cloister-pods").parse()?;
    let missing = PodImages::of(layout, &repository)?;
    for image in &missing.0 {
        ensure!(
            image.pushed(None).is_err(),
            "{} is pushed",
            image.by_digest()
        );
    }
    push(layout, &repository)?;
    push(layout, &repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_layouts_index() {
        let layout = layout("names", &["signer-pod", "key-generator-pod"]);
        let repository = ECR.parse().unwrap();
        assert_eq!(
            PodImages::of(&layout, &repository).unwrap().to_string(),
            format!(
                "CDK_POD_IMAGES=signer={ECR}@sha256:{},key-generator={ECR}@sha256:{}",
                "0".repeat(64),
                "1".repeat(64)
            )
        );
    }

    #[test]
    fn a_layout_without_one_image_per_service_is_refused() {
        let repository = ECR.parse().unwrap();
        for (name, pods) in [
            ("none", &[][..]),
            ("one", &["signer-pod"]),
            ("two", &["signer-pod", "key-generator-pod", "signer-pod"]),
        ] {
            let refused = PodImages::of(&layout(name, pods), &repository);
            assert!(refused.is_err(), "{name}");
        }
    }

    #[test]
    fn the_login_has_no_password_among_its_arguments() {
        let repository: Repository = ECR.parse().unwrap();
        let region = repository.ecr_region().unwrap();
        assert_eq!(
            words(&password(Command::new("aws"), region)),
            "aws ecr get-login-password --region eu-central-1"
        );
        assert_eq!(
            words(&log_in(repository.host(), Path::new("/auth.json"))),
            "skopeo login --username AWS --password-stdin --authfile /auth.json \
             123456789012.dkr.ecr.eu-central-1.amazonaws.com"
        );
    }

    #[test]
    fn every_architecture_is_copied_under_its_own_digest_over_tls() {
        let repository = ECR.parse().unwrap();
        let images = PodImages::of(
            &layout("copy", &["signer-pod", "key-generator-pod"]),
            &repository,
        );
        let copy = images.unwrap().0[1].copy(Path::new("/layout"), Some(Path::new("/auth.json")));
        assert_eq!(
            words(&copy),
            format!(
                "skopeo copy --quiet --all --preserve-digests --dest-tls-verify=true \
                 --dest-authfile /auth.json oci:/layout:key-generator-pod \
                 docker://{ECR}:key-generator-111111111111"
            )
        );
    }

    #[test]
    fn only_loopback_is_spoken_to_without_tls() {
        for (repository, tls) in [
            ("127.0.0.1:5000/pods", false),
            ("localhost/pods", false),
            ("127.0.0.1.example.com/pods", true),
            ("registry.example.com:5000/a/b", true),
        ] {
            let repository: Repository = repository.parse().unwrap();
            assert_eq!(repository.verify_tls(), tls, "{repository:?}");
        }
    }

    #[test]
    fn a_repository_has_a_host_and_neither_tag_nor_digest() {
        for text in [
            "",
            "pods",
            "/pods",
            "host/",
            "host//pods",
            "https://host/pods",
            "host/pods:tag",
            "host/pods@sha256:00",
            "host:port/pods",
            "user@host/pods",
            "--option/pods ",
        ] {
            assert!(text.parse::<Repository>().is_err(), "{text}");
        }
    }

    const ECR: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dev-cloister-pods";

    fn words(command: &Command) -> String {
        let arguments = command.get_args().map(|each| each.to_str().unwrap());
        [command.get_program().to_str().unwrap()]
            .into_iter()
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A layout with an index alone.
    fn layout(name: &str, pods: &[&str]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("cloister-push-{}", std::process::id()));
        let layout = directory.join(name);
        fs::create_dir_all(&layout).unwrap();
        let manifests: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(index, pod)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "digest": format!("sha256:{}", index.to_string().repeat(64)),
                    "size": 1,
                    "annotations": { REFERENCE: pod },
                })
            })
            .collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        layout
    }
}
