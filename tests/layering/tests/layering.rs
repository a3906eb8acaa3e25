//! Rules of the sources that no compiler checks. Package boundaries are boundaries of trust,
//! measurement or dependencies: a dependency that is not listed here is forbidden.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Package → the packages of ours it may depend on, besides [`SHARED`]. Names without the
/// `cloister-` prefix.
const ARROWS: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("protocol", &[]),
    ("nsm", &[]),
    ("attestation", &[]),
    ("aws-calls", &[]),
    ("kms-envelope", &[]),
    ("key-policy", &[]),
    ("nsm-software", &["nsm"]),
    ("eif", &[]),
    ("settings", &["key-policy"]),
    ("transport", &["protocol"]),
    ("signing", &["protocol"]),
    ("keystore", &["aws-calls", "protocol"]),
    ("client", &["protocol"]),
    ("bridge", &["protocol", "transport"]),
    (
        "sealing",
        &["aws-calls", "key-policy", "nsm", "protocol", "signing"],
    ),
    ("init", &["nsm"]),
    (
        "runtime",
        &[
            "aws-calls",
            "key-policy",
            "nsm",
            "protocol",
            "sealing",
            "settings",
            "transport",
        ],
    ),
    (
        "signer",
        &[
            "key-policy",
            "nsm",
            "protocol",
            "runtime",
            "sealing",
            "signing",
            "transport",
        ],
    ),
    (
        "key-generator",
        &[
            "key-policy",
            "keystore",
            "nsm",
            "protocol",
            "runtime",
            "sealing",
            "signing",
            "transport",
        ],
    ),
    (
        "pods",
        &[
            "aws-calls",
            "bridge",
            "eif",
            "keystore",
            "protocol",
            "transport",
        ],
    ),
    ("lambdas", &["protocol"]),
    ("stand-in", &[]),
    (
        "local-kms",
        &["attestation", "key-policy", "kms-envelope", "stand-in"],
    ),
    (
        "cli",
        &[
            "attestation",
            "client",
            "eif",
            "key-policy",
            "protocol",
            "settings",
        ],
    ),
    ("vsock-bridge", &["bridge", "transport"]),
    ("toolchain", &[]),
    ("release", &["toolchain"]),
    ("xtask", &["release", "toolchain"]),
    ("aws", &["toolchain"]),
    ("layering-test", &[]),
];

/// Facts on which both sides of a boundary must agree: every package may use them.
const SHARED: &str = "contract";

/// Packages for one machine, and tests: they may use everything.
const UNRESTRICTED: &[&str] = &["local", "e2e", "guest-self-test"];

/// Crates that a measured binary must not link, directly or indirectly.
const NEVER_MEASURED: &[&str] = &[
    "cloister-nsm-software",
    "cloister-local",
    "cloister-local-kms",
    "cloister-client",
    "aws-config",
    "clap",
    "rcgen",
    "reqwest",
];

#[test]
fn only_the_drawn_arrows_exist() {
    let metadata = metadata();
    let ours: BTreeSet<_> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let name = short(&package.name);
        let Some(allowed) = arrows.get(name) else {
            assert!(
                UNRESTRICTED.contains(&name),
                "{name} is missing from the arrows"
            );
            continue;
        };
        for dependency in
            shipped_dependencies(package).filter(|dependency| ours.contains(*dependency))
        {
            let dependency = short(dependency);
            if dependency != SHARED && !allowed.contains(&dependency) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not drawn: {wrong:?}");
}

#[test]
fn members_take_versions_and_features_from_the_workspace() {
    for package in metadata().workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let dependencies = manifest
            .lines()
            .skip_while(|line| !line.ends_with("dependencies]"));
        for line in dependencies.filter(|line| line.contains('=') && !line.starts_with(['#', '[']))
        {
            let own_table =
                line.starts_with("name") || line.starts_with("path") || line.starts_with("harness");
            assert!(
                own_table || line.contains("workspace = true"),
                "{}: {line}",
                package.name
            );
        }
    }
}

/// The trusted base of an enclave is its dependency tree, listed in its directory so that every
/// addition is reviewed. `UPDATE_TRUSTED_BASE=1 cargo test -p cloister-layering-test` rewrites the
/// lists.
#[test]
fn trusted_base_is_what_was_reviewed() {
    for enclave in ["init", "signer", "key-generator"] {
        let crates = tree(&format!("cloister-{enclave}"));
        let forbidden: Vec<_> = NEVER_MEASURED
            .iter()
            .filter(|name| crates.contains(**name))
            .collect();
        assert!(
            forbidden.is_empty(),
            "the {enclave} enclave links {forbidden:?}"
        );

        let list = root()
            .join("enclaves")
            .join(enclave)
            .join("trusted-base.txt");
        let text = crates
            .iter()
            .map(|name| format!("{name}\n"))
            .collect::<String>();
        if std::env::var_os("UPDATE_TRUSTED_BASE").is_some() {
            std::fs::write(&list, &text).unwrap();
        }
        let reviewed = std::fs::read_to_string(&list).unwrap_or_default();
        let reviewed: BTreeSet<_> = reviewed.lines().map(str::to_owned).collect();
        let entered: Vec<_> = crates.difference(&reviewed).collect();
        let left: Vec<_> = reviewed.difference(&crates).collect();
        assert!(
            entered.is_empty() && left.is_empty(),
            "{}: entered {entered:?}, left {left:?}",
            list.display()
        );
    }
}

/// A measured `main.rs` composes libraries: its host cannot configure it.
#[test]
fn measured_code_takes_nothing_from_its_environment() {
    for package in ["runtime", "signer", "key-generator"] {
        for file in rust_files(&root().join("enclaves").join(package).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests come last.
            let text = text.split("#[cfg(test)]").next().unwrap();
            for word in [
                "env::var",
                "env::args",
                "option_env!",
                "std::process::Command",
                "nsm_software",
                "endpoint_url(\"http",
            ] {
                assert!(!text.contains(word), "{} contains {word}", file.display());
            }
        }
    }
}

/// An error is logged with its causes. `Display` of one error never repeats its source, and a
/// `&dyn Error` field of a flattened JSON line is the outermost message alone.
#[test]
fn logged_errors_have_their_causes() {
    let logged = |line: &str| {
        let line = line.trim_start();
        !line.starts_with("//")
            && (line.contains("%error")
                || line.contains("?error")
                || [" %", " ?", " &"].iter().any(|sigil| {
                    line.contains(&format!("error ={sigil}"))
                        && !line.contains("error = %ErrorChain(")
                }))
    };
    let mut wrong = Vec::new();
    for room in ["crates", "enclaves", "lambdas", "pods"] {
        for (file, number, line) in lines(&root().join(room)) {
            if logged(&line) {
                wrong.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "use `error = %ErrorChain(&error)`:\n{}",
        wrong.join("\n")
    );
}

/// A doc comment begins with a noun phrase or a third-person verb.
#[test]
fn doc_comments_begin_with_their_subject() {
    let mut wrong = Vec::new();
    for room in [
        "cdk", "crates", "enclaves", "examples", "lambdas", "pods", "tests", "tools",
    ] {
        let mut inside = false;
        for (file, number, line) in lines(&root().join(room)) {
            let line = line.trim();
            let doc = line.strip_prefix("///").or(line.strip_prefix("//!"));
            let opens = number == 1 || !inside;
            inside = doc.is_some();
            let first = doc.and_then(|text| text.split_whitespace().next());
            if opens && first.is_some_and(|word| HEADLESS.contains(&word)) {
                wrong.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "begin with a noun or a verb:\n{}",
        wrong.join("\n")
    );
}

const HEADLESS: &[&str] = &[
    "How", "What", "Whatever", "Where", "Whether", "Which", "Who", "Whoever", "Whom", "Whose",
    "Why",
];

fn shipped_dependencies(package: &Package) -> impl Iterator<Item = &str> {
    let shipped = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development);
    shipped.map(|dependency| dependency.name.as_str())
}

fn short(name: &str) -> &str {
    name.strip_prefix("cloister-").unwrap_or(name)
}

/// The names of all crates that are compiled into `package` on Linux, build tools and tests left
/// out.
fn tree(package: &str) -> BTreeSet<String> {
    let target = "x86_64-unknown-linux-musl";
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--package",
            package,
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--target",
            target,
        ])
        .args(["--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The lines of all Rust files below a directory, each with its file and number.
fn lines(directory: &Path) -> Vec<(PathBuf, usize, String)> {
    let mut all = Vec::new();
    for file in rust_files(directory) {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap_or(&file);
        for (index, line) in text.lines().enumerate() {
            all.push((name.to_owned(), index + 1, line.to_owned()));
        }
    }
    all
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                rust_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()
        .unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}
