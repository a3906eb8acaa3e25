//! A2: the pinned root, the chain's length, basic constraints, key usage, and validity at the
//! chosen time.

use ciborium::Value;
use cloister_attestation::{
    AttestationError, ChainError, Expectations, Malformed, Position, TrustRoot, verify,
};
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};

use crate::forge::{Certified, Draft, NOW, at, authority_params, set_validity};

fn untrusted(draft: &Draft) -> ChainError {
    match draft.verify().unwrap_err() {
        AttestationError::Untrusted(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a2_only_the_pinned_root_is_trusted() {
    let draft = Draft::new();
    let document = draft.sign();
    for root in [
        TrustRoot::aws(),
        TrustRoot::explicit(Certified::root().der),
        TrustRoot::explicit(Vec::new()),
    ] {
        let error = verify(&document, &root, at(NOW), &Expectations::default()).unwrap_err();
        assert!(
            matches!(
                error,
                AttestationError::Untrusted(ChainError::ForeignRoot { .. })
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a2_a_root_of_the_same_name_is_another_root() {
    let (trusted, foreign) = (Certified::root(), Certified::root());
    let signer = foreign.signer();
    let document = Draft::under(&[&foreign], &signer).sign();
    let error = verify(
        &document,
        &TrustRoot::explicit(trusted.der.clone()),
        at(NOW),
        &Expectations::default(),
    );
    assert!(matches!(
        error,
        Err(AttestationError::Untrusted(ChainError::ForeignRoot { .. }))
    ));

    // The trusted root in front of certificates that the foreign one signed.
    let draft = Draft::under(&[&trusted], &signer);
    assert!(matches!(untrusted(&draft), ChainError::Path(_)));
}

#[test]
fn a2_chains_up_to_the_bound_pass_and_longer_ones_do_not() {
    let mut chain = vec![Certified::root()];
    for len in 1..=7 {
        let bundle: Vec<_> = chain.iter().collect();
        let draft = Draft::under(&bundle, &chain[len - 1].signer());
        match draft.verify() {
            Ok(_) => assert!(len <= 6, "{len}"),
            Err(error) => assert_eq!((len, error), (7, Malformed::BundleLength.into())),
        }
        chain.push(chain[len - 1].authority(&format!("authority {len}")));
    }
}

#[test]
fn a2_every_certificate_is_valid_at_the_chosen_time() {
    let position = |which| [Position::Bundle(0), Position::Bundle(1), Position::Signer][which];
    for which in 0..3 {
        let (from, to) = (NOW - 30, NOW + 30);
        let narrow = |index: usize, params: &mut rcgen::CertificateParams| {
            if index == which {
                set_validity(params, from, to);
            }
        };
        let root = Certified::root_with(|params| narrow(0, params));
        let intermediate = root.authority_with("intermediate", |params| narrow(1, params));
        let signer = intermediate.signer_with(|params| narrow(2, params));
        let draft = Draft::under(&[&root, &intermediate], &signer);
        let verify_at = |seconds| {
            verify(
                &draft.sign(),
                &draft.trust_root(),
                at(seconds),
                &Expectations::default(),
            )
        };
        for seconds in [from, NOW, to] {
            verify_at(seconds).unwrap();
        }
        let position = position(which);
        assert_eq!(
            verify_at(from - 1).unwrap_err(),
            ChainError::NotYetValid { position }.into()
        );
        assert_eq!(
            verify_at(to + 1).unwrap_err(),
            ChainError::Expired { position }.into()
        );
    }
}

#[test]
fn a2_an_authority_is_marked_as_one() {
    let root = Certified::root();
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let intermediate = root.authority_with("intermediate", |params| params.is_ca = is_ca);
        let draft = Draft::under(&[&root, &intermediate], &intermediate.signer());
        assert_eq!(
            untrusted(&draft),
            ChainError::BasicConstraints {
                position: Position::Bundle(1)
            }
        );
    }
    let root = Certified::root_with(|params| params.is_ca = IsCa::NoCa);
    let draft = Draft::under(&[&root], &root.signer());
    assert_eq!(
        untrusted(&draft),
        ChainError::BasicConstraints {
            position: Position::Bundle(0)
        }
    );
}

#[test]
fn a2_a_signer_is_no_authority() {
    let root = Certified::root();
    let signer =
        root.signer_with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let draft = Draft::under(&[&root], &signer);
    assert_eq!(
        untrusted(&draft),
        ChainError::BasicConstraints {
            position: Position::Signer
        }
    );
}

#[test]
fn a2_a_signer_cannot_issue_the_next_signer() {
    let root = Certified::root();
    let signer = root.signer();
    let draft = Draft::under(&[&root, &signer], &signer.signer());
    assert_eq!(
        untrusted(&draft),
        ChainError::BasicConstraints {
            position: Position::Bundle(1)
        }
    );
}

#[test]
fn a2_path_lengths_are_kept() {
    // Root and intermediate allow `allowed` authorities below them; there is one below the
    // intermediate.
    for (allowed, passes) in [(0, false), (1, true)] {
        let root = Certified::root();
        let constrained = |params: &mut rcgen::CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(allowed));
        };
        let upper = root.authority_with("upper", constrained);
        let lower = upper.authority("lower");
        let draft = Draft::under(&[&root, &upper, &lower], &lower.signer());
        match passes {
            true => drop(draft.verify().unwrap()),
            false => assert_eq!(
                untrusted(&draft),
                ChainError::PathLength {
                    position: Position::Bundle(1)
                }
            ),
        }
        // The root's own constraint counts too.
        let root = Certified::root_with(constrained);
        let only = root.authority("only");
        let draft = Draft::under(&[&root, &only], &only.signer());
        match passes {
            true => drop(draft.verify().unwrap()),
            false => assert_eq!(
                untrusted(&draft),
                ChainError::PathLength {
                    position: Position::Bundle(0)
                }
            ),
        }
    }
}

#[test]
fn a2_key_usage_says_what_a_key_may_do() {
    for usages in [
        vec![],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
    ] {
        let root = Certified::root();
        let intermediate =
            root.authority_with("intermediate", |params| params.key_usages = usages.clone());
        let draft = Draft::under(&[&root, &intermediate], &intermediate.signer());
        assert_eq!(
            untrusted(&draft),
            ChainError::KeyUsage {
                position: Position::Bundle(1)
            }
        );

        let root = Certified::root_with(|params| params.key_usages = usages.clone());
        let draft = Draft::under(&[&root], &root.signer());
        assert_eq!(
            untrusted(&draft),
            ChainError::KeyUsage {
                position: Position::Bundle(0)
            }
        );
    }
    for usages in [
        vec![],
        vec![
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::ContentCommitment,
        ],
        vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ],
    ] {
        let root = Certified::root();
        let draft = Draft::under(
            &[&root],
            &root.signer_with(|params| params.key_usages = usages),
        );
        assert_eq!(
            untrusted(&draft),
            ChainError::KeyUsage {
                position: Position::Signer
            }
        );
    }
}

#[test]
fn a2_a_certificate_for_servers_only_signs_no_documents() {
    let root = Certified::root();
    let servers = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    assert!(matches!(
        untrusted(&Draft::under(&[&root], &root.signer_with(servers))),
        ChainError::Path(_)
    ));
}

#[test]
fn a2_unknown_critical_extensions_are_refused() {
    let mut extension =
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x05, 0x00]);
    for critical in [false, true] {
        extension.set_criticality(critical);
        let root = Certified::root();
        let with = |params: &mut rcgen::CertificateParams| {
            params.custom_extensions = vec![extension.clone()]
        };
        let intermediate = root.authority_with("intermediate", with);
        let draft = Draft::under(&[&root, &intermediate], &intermediate.signer());
        assert_eq!(draft.verify().is_err(), critical);
        let draft = Draft::under(&[&root], &root.signer_with(with));
        assert_eq!(draft.verify().is_err(), critical);
    }
}

#[test]
fn a2_names_connect() {
    let root = Certified::root();
    let (one, other) = (root.authority("one"), root.authority("other"));
    let draft = Draft::under(&[&root, &one], &other.signer());
    assert!(matches!(untrusted(&draft), ChainError::Path(_)));
}

#[test]
fn a2_signatures_connect() {
    // An authority of the same name and another key.
    let root = Certified::root();
    let (one, other) = (root.authority("same"), root.authority("same"));
    let draft = Draft::under(&[&root, &one], &other.signer());
    assert!(matches!(untrusted(&draft), ChainError::Path(_)));
}

#[test]
fn a2_the_bundle_is_the_path_and_nothing_else() {
    let root = Certified::root();
    let (upper, stranger) = (root.authority("upper"), root.authority("stranger"));
    let lower = upper.authority("lower");
    let signer = lower.signer();
    Draft::under(&[&root, &upper, &lower], &signer)
        .verify()
        .unwrap();
    for bundle in [
        vec![&root, &lower, &upper],
        vec![&root, &stranger, &upper, &lower],
        vec![&root, &upper, &lower, &stranger],
        vec![&root, &upper, &upper, &lower],
    ] {
        assert_eq!(
            untrusted(&Draft::under(&bundle, &signer)),
            ChainError::NotTheBundle
        );
    }
    assert!(matches!(
        untrusted(&Draft::under(&[&root, &lower], &signer)),
        ChainError::Path(_)
    ));
    // The root at the end, as bundles of TLS have it.
    let draft = Draft::under(&[&lower, &upper, &root], &signer);
    let error = verify(
        &draft.sign(),
        &TrustRoot::explicit(root.der.clone()),
        at(NOW),
        &Expectations::default(),
    );
    assert!(matches!(
        error,
        Err(AttestationError::Untrusted(ChainError::ForeignRoot { .. }))
    ));
}

#[test]
fn a2_only_p384_keys_sign() {
    let root = Certified::root();
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let mut params = authority_params("signer");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let signer = root.issue(algorithm, params, |_| {});
        let draft = Draft::under(&[&root], &signer);
        assert_eq!(
            untrusted(&draft),
            ChainError::PublicKey {
                position: Position::Signer
            }
        );

        let intermediate = root.issue(algorithm, authority_params("intermediate"), |_| {});
        let draft = Draft::under(&[&root, &intermediate], &intermediate.signer());
        assert!(matches!(untrusted(&draft), ChainError::Path(_)));
    }
    let signer = root.issue(
        &PKCS_ECDSA_P384_SHA384,
        authority_params("signer"),
        |params| {
            params.is_ca = IsCa::NoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        },
    );
    Draft::under(&[&root], &signer).verify().unwrap();
}

#[test]
fn a2_certificates_have_no_trailing_bytes() {
    let root = Certified::root();
    let mut signer = root.signer();
    signer.der.push(0);
    let error = untrusted(&Draft::under(&[&root], &signer));
    assert!(
        matches!(
            error,
            ChainError::Encoding {
                position: Position::Signer,
                ..
            }
        ),
        "{error:?}"
    );

    for der in [vec![0x30], vec![0x30, 0x00], vec![0xff; 1024]] {
        let error = untrusted(&Draft::new().set("certificate", Value::Bytes(der)));
        assert!(
            matches!(
                error,
                ChainError::Encoding {
                    position: Position::Signer,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a2_the_document_is_signed_by_the_certificate_it_shows() {
    let root = Certified::root();
    let (one, other) = (root.signer(), root.signer());
    let draft = Draft::under(&[&root], &one).set("certificate", Value::Bytes(other.der));
    assert_eq!(draft.verify().unwrap_err(), AttestationError::BadSignature);
}
