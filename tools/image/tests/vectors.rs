//! The accepted vectors in `tests/vectors/eif` are what AWS's package writes, its registers among
//! them.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use aws_nitro_enclaves_image_format::defs::{EifBuildInfo, EifIdentityInfo};
use aws_nitro_enclaves_image_format::utils::eif_reader::EifReader;
use aws_nitro_enclaves_image_format::utils::{EifBuilder, SignKeyData, get_pcrs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_eif::Eif;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Name};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};

/// Name, why, flags of the header, number of ramdisks, whether it is signed.
const ACCEPTED: &[(&str, &str, u16, usize, bool)] = &[
    ("accepted-one-ramdisk", "PCR2 covers nothing", 0, 1, false),
    (
        "accepted-three-ramdisks",
        "PCR2 covers the second and the third",
        0,
        3,
        false,
    ),
    (
        "accepted-arm64",
        "the architecture is a flag of the header, and in no register",
        1,
        2,
        false,
    ),
    (
        "accepted-signed",
        "PCR8 covers the certificate of whoever signed",
        0,
        3,
        true,
    ),
    (
        "accepted-28-ramdisks",
        "as many sections as the header has room for",
        0,
        28,
        true,
    ),
];

/// `UPDATE_VECTORS=1` writes the files again. A signature differs every time, its certificate
/// too.
#[test]
fn accepted_vectors_are_what_the_package_of_aws_writes() {
    for (name, why, flags, ramdisks, signed) in ACCEPTED {
        let path = Path::new(VECTORS).join(format!("{name}.json"));
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            let (image, registers) = build(*flags, *ramdisks, *signed);
            let vector = json!({
                "name": name,
                "why": why,
                "source": "written by EifBuilder of the package aws-nitro-enclaves-image-format 0.8.1; kernel and ramdisks are short texts",
                "image": STANDARD.encode(image),
                "measurements": registers,
            });
            fs::write(
                &path,
                format!("{}\n", serde_json::to_string_pretty(&vector).unwrap()),
            )
            .unwrap();
        }

        let vector: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let image = STANDARD.decode(vector["image"].as_str().unwrap()).unwrap();
        if !signed {
            let (built, registers) = build(*flags, *ramdisks, false);
            assert!(image == built, "{name}");
            assert_eq!(vector["measurements"], json!(registers), "{name}");
        }
        // The reader of the same package, too.
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &image).unwrap();
        let mut reader = EifReader::from_eif(file.path().to_str().unwrap().to_owned()).unwrap();
        assert_eq!(reader.eif_crc, reader.header.eif_crc32, "{name}");
        assert!(reader.signature_section.is_some() == *signed, "{name}");
        let mut registers = get_pcrs(
            &mut reader.image_hasher,
            &mut reader.bootstrap_hasher,
            &mut reader.app_hasher,
            &mut reader.cert_hasher,
            Sha384::new(),
            *signed,
        )
        .unwrap();
        registers.remove("HashAlgorithm");
        assert_eq!(vector["measurements"], json!(lower(registers)), "{name}");
        assert!(Eif::parse(image).is_ok(), "{name}");
    }
}

fn build(flags: u16, ramdisks: usize, signed: bool) -> (Vec<u8>, BTreeMap<String, String>) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    };
    let identity = EifIdentityInfo {
        img_name: "vector".to_owned(),
        img_version: "1".to_owned(),
        build_info: EifBuildInfo {
            build_time: "1970-01-01T00:00:00+00:00".to_owned(),
            build_tool: "vectors".to_owned(),
            build_tool_version: "1".to_owned(),
            img_os: "Linux".to_owned(),
            img_kernel: "0".to_owned(),
        },
        docker_info: json!({}),
        custom_info: json!({}),
    };
    let key = signed.then(|| {
        let (certificate, key) = signing_key();
        SignKeyData::new(
            file("key", &key).to_str().unwrap(),
            &file("certificate", &certificate),
        )
        .unwrap()
    });
    let kernel = file("kernel", b"a kernel");
    let line = "reboot=k panic=30 rdinit=/init".to_owned();
    let mut builder = EifBuilder::new(&kernel, line, key, Sha384::new(), flags, identity);
    for index in 0..ramdisks {
        builder.add_ramdisk(&file(
            &format!("ramdisk-{index}"),
            format!("ramdisk {index}").as_bytes(),
        ));
    }
    let image = directory.path().join("image");
    let mut registers = builder.write_to(&mut File::create(&image).unwrap());
    registers.remove("HashAlgorithm");
    (fs::read(image).unwrap(), lower(registers))
}

fn lower(registers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    registers
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect()
}

fn signing_key() -> (Vec<u8>, Vec<u8>) {
    let curve = EcGroup::from_curve_name(Nid::SECP384R1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "throw-away")
        .unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate
        .set_not_before(&Asn1Time::from_unix(0).unwrap())
        .unwrap();
    certificate
        .set_not_after(&Asn1Time::from_str("99991231235959Z").unwrap())
        .unwrap();
    certificate.sign(&key, MessageDigest::sha384()).unwrap();
    (
        certificate.build().to_pem().unwrap(),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
}

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/eif");
