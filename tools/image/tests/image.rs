//! The tool as its callers see it: files in, files out.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloister_eif::{Architecture, Eif, ExpectedMeasurements, Measurements};
use flate2::read::GzDecoder;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::{X509, X509Name};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn neither_place_nor_time_nor_user_shows() {
    let [here, there] = [Workshop::new(), Workshop::new()];
    here.succeed("umask 022; unset TZ", &["release", "assemble"]);
    let old = Command::new("find")
        .arg(there.path(""))
        .args(["-exec", "touch", "-d", "2001-02-03", "{}", "+"])
        .status();
    assert!(old.unwrap().success());
    there.succeed(
        "umask 077; cd /; export TZ=Asia/Tokyo LC_ALL=C HOME=/nowhere TMPDIR=/tmp",
        &["release", "assemble"],
    );
    for directory in ["release", "output"] {
        assert_eq!(here.files(directory), there.files(directory));
    }
}

#[test]
fn the_files_are_those_that_were_promised() {
    let workshop = Workshop::new();
    workshop.succeed("", &["release", "assemble"]);
    let names = |directory| workshop.files(directory).into_keys().collect::<Vec<_>>();
    let release = [
        "cmdline",
        "init.cpio.gz",
        "kernel",
        "kernel.config",
        "key-generator.cpio.gz",
        "release.json",
        "signer.cpio.gz",
    ];
    assert_eq!(names("release"), release);
    assert_eq!(
        names("output"),
        ["key-generator.eif", "measurements.json", "signer.eif"]
    );

    let measurements = workshop.measurements_file();
    assert_eq!(measurements["settings"], workshop.settings());
    assert_eq!(measurements["inputs"]["build"], json!({"rust": "1.95.0"}));
    assert_eq!(
        measurements["inputs"]["command_line"],
        "reboot=k rdinit=/init"
    );
    assert_eq!(measurements["inputs"]["binaries"]["signer"]["size"], 64 + 6);
    for service in ["signer", "key-generator"] {
        let bytes = fs::read(workshop.path(&format!("output/{service}.eif"))).unwrap();
        let record = &measurements["images"][service];
        assert_eq!(record["size"], bytes.len());
        assert_eq!(
            record["sha256"],
            const_hex::encode(hash(MessageDigest::sha256(), &bytes).unwrap())
        );
        let eif = Eif::parse(bytes).unwrap();
        assert_eq!(eif.command_line(), b"reboot=k rdinit=/init");
        assert_eq!(eif.architecture(), Architecture::Amd64);
        let path = workshop.path("output/measurements.json");
        assert_eq!(
            ExpectedMeasurements::read(&path, service)
                .unwrap()
                .compare(&eif.measurements()),
            Ok(())
        );
    }
}

#[test]
fn the_generator_measures_the_signer() {
    let workshop = Workshop::new();
    workshop.succeed("", &["release", "assemble"]);
    let settings = |service| {
        let eif = Eif::read(&workshop.path(&format!("output/{service}.eif"))).unwrap();
        let ramdisk = eif.ramdisks().nth(2).unwrap().to_vec();
        let mut archive = String::new();
        GzDecoder::new(ramdisk.as_slice())
            .read_to_string(&mut archive)
            .unwrap();
        let from = archive.find('{').unwrap();
        serde_json::from_str::<Value>(&archive[from..=archive.rfind('}').unwrap()]).unwrap()
    };
    let mut expected = workshop.settings();
    assert_eq!(settings("signer"), expected);
    expected["signer_pcr0"] = const_hex::encode(workshop.measurements("signer").pcr0).into();
    assert_eq!(settings("key-generator"), expected);
}

#[test]
fn one_changed_byte_of_settings_is_another_image_of_the_same_release() {
    let workshop = Workshop::new();
    workshop.succeed("", &["release", "assemble"]);
    let before = ["signer", "key-generator"].map(|service| workshop.measurements(service));
    workshop.change_settings(|settings| {
        settings["table_arn"] = "arn:aws:dynamodb:eu-central-1:123456789012:table/keyz".into()
    });
    workshop.succeed("", &["assemble"]);
    let after = ["signer", "key-generator"].map(|service| workshop.measurements(service));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.pcr1, after.pcr1);
        assert_ne!(before.pcr0, after.pcr0);
        assert_ne!(before.pcr2, after.pcr2);
    }
    assert_eq!(
        before[0].pcr1, before[1].pcr1,
        "the services share kernel and init"
    );
}

#[test]
fn a_release_and_settings_give_the_same_images_elsewhere() {
    let [maker, outsider] = [Workshop::new(), Workshop::new()];
    maker.succeed("", &["release", "assemble"]);
    let release = maker.path("release");
    outsider.succeed(
        &format!(
            "cp -r {} {}",
            release.display(),
            outsider.path("").display()
        ),
        &["assemble"],
    );
    assert_eq!(maker.files("output"), outsider.files("output"));

    // Layout is not settings.
    fs::write(
        outsider.path("settings.json"),
        serde_json::to_vec_pretty(&outsider.settings()).unwrap(),
    )
    .unwrap();
    outsider.succeed("", &["assemble"]);
    assert_eq!(maker.files("output"), outsider.files("output"));
}

#[test]
fn a_changed_release_is_refused() {
    for file in ["kernel", "cmdline", "init.cpio.gz", "signer.cpio.gz"] {
        let workshop = Workshop::new();
        workshop.succeed("", &["release"]);
        let path = workshop.path(&format!("release/{file}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
        workshop.fail(
            "assemble",
            &[file, "is not the file that the release was made with"],
        );
        assert!(!workshop.path("output").exists());
    }
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let not_a_certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    for (member, value, message) in [
        ("region", json!("EU"), "`region` is invalid: `EU`"),
        (
            "signer_pcr0",
            json!("07".repeat(48)),
            "`signer_pcr0` is invalid",
        ),
        ("endpoint", json!("http://127.0.0.1"), "endpoint"),
        ("tls_roots", json!([root(), "x"]), "TLS root 1"),
        (
            "tls_roots",
            json!([root(), not_a_certificate]),
            "`tls_roots[1]` is not an X.509 certificate",
        ),
        (
            "signer_role",
            json!("arn:aws:iam::123456789012:role/*"),
            "role/*",
        ),
    ] {
        let workshop = Workshop::new();
        workshop.change_settings(|settings| settings[member] = value);
        workshop.succeed("", &["release"]);
        workshop.fail("assemble", &["settings.json is refused", message]);
        assert!(!workshop.path("output/signer.eif").exists(), "{member}");
        assert!(
            !workshop.path("output/measurements.json").exists(),
            "{member}"
        );
    }
}

#[test]
fn an_image_that_needs_too_much_memory_is_refused() {
    let workshop = Workshop::new();
    // Incompressible: a xorshift generator.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(2_000_000).flatten().collect();
    fs::write(workshop.path("signer"), elf(&noise, AMD64)).unwrap();
    workshop.succeed("", &["release"]);
    workshop.fail(
        "assemble",
        &["the image of signer has 160", "at most 16000000"],
    );
}

#[test]
fn what_cannot_run_in_an_enclave_is_refused() {
    let mut dynamic = elf(&[3, 0, 0, 0], AMD64);
    dynamic[32] = 64;
    (dynamic[54], dynamic[56]) = (56, 1);
    let mut cut_off = dynamic.clone();
    cut_off.truncate(64);
    for (file, contents, message) in [
        (
            "init",
            b"#!/bin/sh\n".to_vec(),
            "not a program for Linux on amd64",
        ),
        ("init", elf(b"", ARM64), "not a program for Linux on amd64"),
        ("signer", dynamic, "linked dynamically"),
        ("key-generator", cut_off, "truncated"),
        ("kernel", b"\x7fELF vmlinux".to_vec(), "bzImage is expected"),
        ("cmdline", b"a\nb\n".to_vec(), "one line of printable ASCII"),
        ("inputs.json", b"[]".to_vec(), "not a JSON object"),
        ("kernel.config", b"".to_vec(), "has 0 bytes"),
    ] {
        let workshop = Workshop::new();
        fs::write(workshop.path(file), contents).unwrap();
        workshop.fail("release", &[&format!("/{file} "), message]);
        assert!(!workshop.path("release").exists(), "{file}");
    }
    let workshop = Workshop::new();
    fs::remove_file(workshop.path("init")).unwrap();
    workshop.fail("release", &["failed to read", "/init"]);
}

#[test]
fn arm64_is_another_flag_in_the_header() {
    let workshop = Workshop::new();
    let mut kernel = vec![0; 64];
    kernel[56..60].copy_from_slice(b"ARM\x64");
    fs::write(workshop.path("kernel"), kernel).unwrap();
    for program in ["init", "signer", "key-generator"] {
        fs::write(workshop.path(program), elf(program.as_bytes(), ARM64)).unwrap();
    }
    let mut arguments = workshop.arguments("release");
    *arguments
        .iter_mut()
        .find(|argument| *argument == "amd64")
        .unwrap() = "arm64".to_owned();
    assert_eq!(run("", &arguments), Ok(String::new()));
    workshop.succeed("", &["assemble"]);
    let eif = Eif::read(&workshop.path("output/signer.eif")).unwrap();
    assert_eq!(eif.architecture(), Architecture::Arm64);
    assert_eq!(workshop.measurements_file()["architecture"], "arm64");
}

#[test]
fn a_module_is_part_of_the_first_ramdisk() {
    let workshop = Workshop::new();
    workshop.succeed("", &["release", "assemble"]);
    let without = workshop.measurements("signer");
    fs::write(workshop.path("nsm.ko"), "driver").unwrap();
    let mut arguments = workshop.arguments("release");
    arguments.extend(["--module".to_owned(), workshop.text("nsm.ko")]);
    assert_eq!(run("", &arguments), Ok(String::new()));
    workshop.succeed("", &["assemble"]);
    let with = workshop.measurements("signer");
    assert_ne!(without.pcr1, with.pcr1);
    assert_eq!(without.pcr2, with.pcr2);
}

#[test]
fn one_image_takes_settings_as_they_are() {
    let workshop = Workshop::new();
    workshop.succeed("", &["release"]);
    fs::write(workshop.path("settings.json"), "{}").unwrap();
    let image = workshop.path("one.eif");
    let [release, settings, output] =
        ["release", "settings.json", "one.eif"].map(|name| workshop.text(name));
    let arguments = [
        "one",
        "--application",
        "signer",
        "--release",
        &release,
        "--settings",
        &settings,
        "--output",
        &output,
    ];
    let printed = run("", &arguments.map(str::to_owned)).unwrap();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["file"], "one.eif");
    assert_eq!(
        printed["pcr0"],
        const_hex::encode(Eif::read(&image).unwrap().measurements().pcr0)
    );

    let mut unknown = arguments;
    unknown[2] = "verifier";
    assert!(
        run("", &unknown.map(str::to_owned))
            .unwrap_err()
            .contains("no application `verifier`")
    );
}

#[test]
fn a_signed_image_names_its_signer_and_measures_the_same() {
    let workshop = Workshop::new();
    workshop.succeed("", &["release", "assemble"]);
    let unsigned = workshop.measurements("signer");
    let key = key(Nid::SECP384R1);
    let certificate = certificate(&key, true);
    workshop.write_signing_key(&certificate, &key.private_key_to_pem_pkcs8().unwrap());
    workshop.succeed("", &["assemble-signed"]);
    for service in ["signer", "key-generator"] {
        let eif = Eif::read(&workshop.path(&format!("output/{service}.eif"))).unwrap();
        assert_eq!(
            eif.signing_certificate(),
            Some(certificate.to_der().unwrap().as_slice())
        );
        let sha384 = |bytes: &[u8]| hash(MessageDigest::sha384(), bytes).unwrap().to_vec();
        let extended =
            sha384(&[[0; 48].as_slice(), &sha384(&certificate.to_der().unwrap())].concat());
        assert_eq!(eif.measurements().pcr8.unwrap().as_slice(), extended);
        let path = workshop.path("output/measurements.json");
        assert_eq!(
            ExpectedMeasurements::read(&path, service)
                .unwrap()
                .compare(&eif.measurements()),
            Ok(())
        );
    }
    assert_eq!(
        Measurements {
            pcr8: None,
            ..workshop.measurements("signer")
        },
        unsigned
    );
}

#[test]
fn a_signing_key_that_the_hypervisor_would_refuse_is_refused() {
    let good = key(Nid::SECP384R1);
    let pem = |key: &PKey<Private>| key.private_key_to_pem_pkcs8().unwrap();
    let other_curve = key(Nid::X9_62_PRIME256V1);
    let with_password = good
        .private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret")
        .unwrap();
    for (certificate, key, message) in [
        (
            certificate(&good, true),
            pem(&key(Nid::SECP384R1)),
            "the certificate of another key",
        ),
        (
            certificate(&other_curve, true),
            pem(&other_curve),
            "a P-384 key is expected",
        ),
        (
            certificate(&good, false),
            pem(&good),
            "not valid at this time",
        ),
        (certificate(&good, true), with_password, "without password"),
    ] {
        let workshop = Workshop::new();
        workshop.succeed("", &["release"]);
        workshop.write_signing_key(&certificate, &key);
        workshop.fail("assemble-signed", &[message]);
        assert!(!workshop.path("output").exists());
    }
}

/// A directory with everything that the tool takes.
struct Workshop(TempDir);

impl Workshop {
    fn new() -> Self {
        let workshop = Self(TempDir::new().unwrap());
        let mut kernel = vec![0; 0x300];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        for (name, contents) in [
            ("kernel", kernel.as_slice()),
            (
                "kernel.config",
                b"#\n# Automatically generated file\n# Linux/x86 6.12.0 Kernel Configuration\n",
            ),
            ("cmdline", b"reboot=k rdinit=/init\n"),
            ("init", &elf(b"init", AMD64)),
            ("signer", &elf(b"signer", AMD64)),
            ("key-generator", &elf(b"key-generator", AMD64)),
            ("inputs.json", br#"{"rust": "1.95.0"}"#),
            ("settings.json", settings().to_string().as_bytes()),
        ] {
            fs::write(workshop.path(name), contents).unwrap();
        }
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn arguments(&self, command: &str) -> Vec<String> {
        let [release, output, settings] =
            ["release", "output", "settings.json"].map(|name| self.text(name));
        let mut arguments: Vec<String> = match command {
            "release" => vec![
                "release".into(),
                "--architecture".into(),
                "amd64".into(),
                "--output".into(),
                release,
            ],
            _ => [
                "assemble",
                "--release",
                &release,
                "--settings",
                &settings,
                "--output",
                &output,
            ]
            .map(Into::into)
            .into(),
        };
        let files: &[(&str, &str)] = match command {
            "release" => &[
                ("--kernel", "kernel"),
                ("--kernel-config", "kernel.config"),
                ("--cmdline", "cmdline"),
                ("--init", "init"),
                ("--inputs", "inputs.json"),
            ],
            "assemble-signed" => &[("--certificate", "certificate.pem"), ("--key", "key.pem")],
            _ => &[],
        };
        for (option, name) in files {
            arguments.extend([(*option).to_owned(), self.text(name)]);
        }
        if command == "release" {
            for name in ["signer", "key-generator"] {
                arguments.extend([
                    "--application".to_owned(),
                    format!("{name}={}", self.text(name)),
                ]);
            }
        }
        arguments
    }

    fn succeed(&self, before: &str, commands: &[&str]) {
        for command in commands {
            run(before, &self.arguments(command)).unwrap();
        }
    }

    fn fail(&self, command: &str, messages: &[&str]) {
        let error = run("", &self.arguments(command)).unwrap_err();
        for message in messages {
            assert!(error.contains(message), "`{message}` is not in {error}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }

    fn files(&self, directory: &str) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .map(|path| {
                (
                    path.file_name().unwrap().to_str().unwrap().to_owned(),
                    fs::read(path).unwrap(),
                )
            })
            .collect()
    }

    fn settings(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("settings.json")).unwrap()).unwrap()
    }

    fn change_settings(&self, change: impl FnOnce(&mut Value)) {
        let mut settings = self.settings();
        change(&mut settings);
        fs::write(self.path("settings.json"), settings.to_string()).unwrap();
    }

    fn measurements_file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("output/measurements.json")).unwrap()).unwrap()
    }

    fn measurements(&self, service: &str) -> Measurements {
        Eif::read(&self.path(&format!("output/{service}.eif")))
            .unwrap()
            .measurements()
    }

    fn write_signing_key(&self, certificate: &X509, key: &[u8]) {
        fs::write(self.path("certificate.pem"), certificate.to_pem().unwrap()).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
    }
}

/// Runs the tool; what it prints, or what it complains about.
fn run(before: &str, arguments: &[String]) -> Result<String, String> {
    let script = format!("{before}\nexec \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_cloister-image")])
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// An ELF header without segments, and something behind it.
fn elf(contents: &[u8], machine: u8) -> Vec<u8> {
    let mut header = [0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x02\x01");
    header[18] = machine;
    [header.as_slice(), contents].concat()
}

fn settings() -> Value {
    json!({
        "partition": "aws",
        "account": "123456789012",
        "region": "eu-central-1",
        "signer_role": "arn:aws:iam::123456789012:role/signer",
        "generator_role": "arn:aws:iam::123456789012:role/generator",
        "retirement_role": "arn:aws:iam::123456789012:role/retirement",
        "administrator_role": "arn:aws:iam::123456789012:role/administrator",
        "table_arn": "arn:aws:dynamodb:eu-central-1:123456789012:table/keys",
        "tls_roots": [root()],
        "accept_open_policy": true,
    })
}

/// Some certificate.
fn root() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/attestation/certificates/aws-nitro-root-g1.pem");
    fs::read_to_string(path).unwrap()
}

fn key(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

/// Valid now, or in 2001 only.
fn certificate(key: &PKey<Private>, valid: bool) -> X509 {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "throw-away")
        .unwrap();
    let name = name.build();
    let end = if valid {
        Asn1Time::days_from_now(1)
    } else {
        Asn1Time::from_unix(1_000_086_400)
    };
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(key).unwrap();
    certificate
        .set_not_before(&Asn1Time::from_unix(1_000_000_000).unwrap())
        .unwrap();
    certificate.set_not_after(&end.unwrap()).unwrap();
    certificate.sign(key, MessageDigest::sha384()).unwrap();
    certificate.build()
}

/// `e_machine` of ELF.
const AMD64: u8 = 62;
const ARM64: u8 = 183;
