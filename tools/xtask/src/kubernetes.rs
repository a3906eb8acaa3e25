//! The Kubernetes objects against the schemas of the version that is deployed.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use cloister_contract::{Architecture, Service};
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::succeed;
use cloister_toolchain::node::Node;
use cloister_toolchain::python;
use fs_err as fs;

/// Writes every object as YAML for each architecture, and checks it; unknown members are errors.
pub(crate) fn check_objects() -> Result<()> {
    let node = Node::find()?;
    node.install(&workspace_root().join("cdk"))?;
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let directory = target_directory().join(format!("kubernetes-{architecture}"));
        let images = directory.join("images");
        let mut write_images = program(&node, "test/write-images.ts", "dev-", architecture)?;
        succeed(write_images.arg(&images))?;
        let digest = "0".repeat(64);
        let named = |service| format!("{service}=registry.example.com/pods@sha256:{digest}");
        let pod_images = Service::ALL.map(named).join(",");
        write_objects("dev-", architecture, &images, &pod_images, &directory)?;
        let mut validate = python::with_packages("kubernetes-validate", PACKAGES, &[])?;
        validate.args([
            "-m",
            "kubernetes_validate",
            "--quiet",
            "--strict",
            "--kubernetes-version",
            VERSION,
        ]);
        validate.args(["kubernetes.yaml", "autoscalers.yaml"].map(|file| directory.join(file)));
        succeed(&mut validate)?;
    }
    Ok(())
}

/// Checks that the pods of the example deployment run images by the names in `pod_images`, which is
/// the value of `CDK_POD_IMAGES`.
pub(crate) fn check_images(images: &Path, pod_images: &str) -> Result<()> {
    let directory = target_directory().join("kubernetes-pushed");
    write_objects("", Architecture::Amd64, images, pod_images, &directory)?;
    let objects = fs::read_to_string(directory.join("kubernetes.yaml"))?;
    for image in pod_images.split(',') {
        let (_, name) = image.split_once('=').unwrap_or_default();
        let member = format!("\"image\": \"{name}\"");
        ensure!(objects.contains(&member), "no pod has the image {name}");
    }
    Ok(())
}

fn write_objects(
    prefix: &str,
    architecture: Architecture,
    images: &Path,
    pod_images: &str,
    directory: &Path,
) -> Result<()> {
    let mut manifests = program(&Node::find()?, "bin/manifests.ts", prefix, architecture)?;
    manifests
        .env("CDK_IMAGES", images)
        .env("CDK_POD_IMAGES", pod_images);
    succeed(manifests.arg(directory).arg("test/parameters.json"))
}

/// A program of the CDK app, with the configuration of a deployment on a cluster that exists.
fn program(node: &Node, file: &str, prefix: &str, architecture: Architecture) -> Result<Command> {
    let mut program = node.node()?;
    program
        .current_dir(workspace_root().join("cdk"))
        .args(["--import", "tsx", file])
        .env("CDK_PREFIX", prefix)
        .env("CDK_TARGET_ARCHITECTURE", format!("linux/{architecture}"))
        .envs(DEPLOYMENT.iter().copied());
    Ok(program)
}

const DEPLOYMENT: &[(&str, &str)] = &[
    ("CDK_DEPLOY_ACCOUNT", "123456789012"),
    ("CDK_DEPLOY_REGION", "eu-central-1"),
    ("CDK_PARAMETER_PREFIX", "/dev-app/ethereum"),
    ("CDK_ALARMS_TO", "operators@example.com"),
    ("CDK_VARIANT", "identities"),
    ("CDK_CLUSTER", "platform"),
    ("CDK_VPC_ID", "vpc-0123456789abcdef0"),
    ("CDK_VPC_CIDR", "10.20.0.0/16"),
    ("CDK_ZONES", "eu-central-1a,eu-central-1b"),
    (
        "CDK_VPC_SUBNETS",
        "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    ),
    (
        "CDK_VPC_LOAD_BALANCER_SUBNETS",
        "subnet-0123456789abcdef2,subnet-0123456789abcdef3",
    ),
    ("CDK_VPC_LOAD_BALANCER_CIDRS", "10.20.0.0/26,10.20.0.64/26"),
];

/// As in cdk/lib/cluster.ts.
const VERSION: &str = "1.36";

/// For Python 3.11 to 3.14 on x86-64.
const PACKAGES: &str = "\
attrs==26.1.0 --hash=sha256:c647aa4a12dfbad9333ca4e71fe62ddc36f4e63b2d260a37a8b83d2f043ac309
importlib_resources==7.1.0 --hash=sha256:1bd7b48b4088eddb2cd16382150bb515af0bd2c70128194392725f82ad2c96a1
jsonschema==4.26.0 --hash=sha256:d489f15263b8d200f8387e64b4c3a75f06629559fb73deb8fdfb525f2dab50ce
jsonschema-specifications==2025.9.1 --hash=sha256:98802fee3a11ee76ecaca44429fda8a41bff98b00a0f2838151b113f210cc6fe
kubernetes-validate==1.37.0 --hash=sha256:85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9
packaging==26.3 --hash=sha256:d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c
PyYAML==6.0.3 --hash=sha256:b8bb0864c5a28024fac8a632c443c87c5aa6f215c0b126c449ae1a150412f31d \
--hash=sha256:ba1cc08a7ccde2d2ec775841541641e4548226580ab850948cbfda66a1befcdc \
--hash=sha256:0f29edc409a6392443abf94b9cf89ce99889a1dd5376d94316ae5145dfedd5d6 \
--hash=sha256:c458b6d084f9b935061bc36216e8a69a7e293a2f1e68bf956dcd9e6cbcd143f5
referencing==0.37.0 --hash=sha256:381329a9f99628c9069361716891d34ad94af76e461dcb0335825aecc7692231
rpds-py==2026.9.1 --hash=sha256:136a1c3fe4402b7008bc81cb62ee538481795b61a7e83df88dff3b3f02b726ff \
--hash=sha256:addeda51556dac7c1a2f14cda62db8b621cd12afba3091d03a96c72932387eab \
--hash=sha256:7868b85224291c6cb6759f9b5adb9745f486d226f62b16a614dd5a2a5ab2b35b \
--hash=sha256:eac2f5dbafd585dfe31f86a23ebf0d3ba480a9d49ebc87947267b5608d4ea0cd
typing_extensions==4.16.0 --hash=sha256:481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8
";
