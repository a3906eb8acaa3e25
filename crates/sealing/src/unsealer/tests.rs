use std::collections::BTreeMap;
use std::time::Instant;

use cloister_protocol::row::Envelope;
use cloister_protocol::{Code, KeyId, PrivateKey, Rejection, Verifier};
use cloister_signing::address;
use serde_json::json;

use super::*;
use crate::capability::{Capabilities, Capability};
use crate::fake_kms::{ARN, FakeKms};
use crate::row::{Origin, RowContents, RowHeader, seal};
use cloister_contract::Service;

/// A row sealed under a data key of the fake KMS.
async fn sealed_row(kms: &AttestedKms, seed: u8) -> SealedRow {
    let contents = RowContents {
        key: PrivateKey::take(&mut [seed; 32]).unwrap(),
        verifier: Verifier::from_bytes([seed; 32]),
        capabilities: [Capability::Transaction].into_iter().collect(),
    };
    let header = RowHeader {
        key_id: KeyId::from_random_bytes([seed; 16]),
        address: address(&contents.key),
        origin: Origin::Generated,
        version: 1,
    };
    let envelope = seal(&header, &contents, kms.generate_data_key().await.unwrap()).unwrap();
    SealedRow {
        key_id: header.key_id,
        address: header.address,
        version: 1,
        created_at: 0,
        sealed: BTreeMap::from([(ARN.to_owned(), envelope)]),
    }
}

async fn setup() -> (FakeKms, Arc<AttestedKms>, SealedRow) {
    let fake = FakeKms::new();
    let kms = fake.attested(Service::KeyGenerator).await;
    let row = sealed_row(&kms, 7).await;
    (fake, kms, row)
}

/// Looks again until it holds.
async fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never held");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_row_is_opened_with_one_call_however_often() {
    let (fake, kms, row) = setup().await;
    let unsealer = Unsealer::new(kms);
    for _ in 0..10 {
        let opened = unsealer.open(&row).await.unwrap();
        assert_eq!(opened.key().expose(), &[7; 32]);
        assert!(opened.capabilities().contains(Capability::Transaction));
        assert!(!opened.capabilities().contains(Capability::UserOpHash));
        assert_ne!(opened.capabilities(), Capabilities::NONE);
    }
    assert_eq!(fake.calls("Decrypt").len(), 1);
}

#[tokio::test]
async fn reading_back_goes_through_kms_every_time() {
    let (fake, kms, row) = setup().await;
    let unsealer = Unsealer::new(kms);
    unsealer.open(&row).await.unwrap();
    for calls in 2..4 {
        unsealer.open_through_kms(&row).await.unwrap();
        assert_eq!(fake.calls("Decrypt").len(), calls);
    }
}

#[tokio::test]
async fn a_burst_on_one_row_costs_one_call_and_survives_those_who_give_up() {
    let (fake, kms, row) = setup().await;
    let unsealer = Arc::new(Unsealer::new(kms));
    fake.hold();
    let burst: Vec<_> = (0..50)
        .map(|_| {
            let (unsealer, row) = (unsealer.clone(), row.clone());
            tokio::spawn(async move { unsealer.open(&row).await.map(drop) })
        })
        .collect();
    eventually(|| fake.calls("Decrypt").len() == 1).await;
    // The first one is the one that asked.
    burst[0].abort();
    fake.release();
    let mut opened = 0;
    for open in burst {
        if let Ok(result) = open.await {
            result.unwrap();
            opened += 1;
        }
    }
    assert!(opened >= 49);
    assert_eq!(fake.calls("Decrypt").len(), 1);
}

#[tokio::test]
async fn failures_are_shared_but_not_kept() {
    let (fake, kms, row) = setup().await;
    let unsealer = Unsealer::new(kms);
    fake.tamper(|_, status, reply| {
        *status = 400;
        *reply = json!({ "__type": "AccessDeniedException" });
    });
    let (first, second) = tokio::join!(unsealer.open(&row), unsealer.open(&row));
    assert_eq!(first.unwrap_err(), OpenError::Kms(KmsError::Denied));
    assert_eq!(second.unwrap_err(), OpenError::Kms(KmsError::Denied));
    assert_eq!(fake.calls("Decrypt").len(), 1);
    fake.be_honest();
    unsealer.open(&row).await.unwrap();
    assert_eq!(fake.calls("Decrypt").len(), 2);
}

#[tokio::test]
async fn a_kept_data_key_opens_no_other_row() {
    let (fake, kms, row) = setup().await;
    let other = sealed_row(&kms, 8).await;
    let unsealer = Unsealer::new(kms);
    unsealer.open(&row).await.unwrap();
    unsealer.open(&other).await.unwrap();

    let swapped = SealedRow {
        sealed: row.sealed.clone(),
        ..other
    };
    assert_eq!(
        unsealer.open(&swapped).await.unwrap_err(),
        OpenError::NotAuthentic
    );
    assert_eq!(fake.calls("Decrypt").len(), 2);
}

#[tokio::test]
async fn rows_that_cannot_open_cost_no_call() {
    let (fake, kms, row) = setup().await;
    let unsealer = Unsealer::new(kms);
    let none = SealedRow {
        sealed: BTreeMap::new(),
        ..row.clone()
    };
    let malformed = SealedRow {
        sealed: BTreeMap::from([(ARN.to_owned(), Envelope(vec![2]))]),
        ..row
    };
    for row in [none, malformed] {
        assert_eq!(
            Rejection::from(unsealer.open(&row).await.unwrap_err()).code,
            Code::SealedRowRefused
        );
        assert_eq!(
            Rejection::from(unsealer.open_through_kms(&row).await.unwrap_err()).code,
            Code::SealedRowRefused
        );
    }
    assert!(fake.calls("Decrypt").is_empty());
}

#[tokio::test]
async fn data_keys_are_dropped_when_they_are_old_even_if_nobody_asks() {
    let (fake, kms, row) = setup().await;
    let unsealer = Unsealer::with_max_age(kms, Duration::from_millis(60));
    unsealer.open(&row).await.unwrap();
    assert_eq!(unsealer.cache.lock().len(), 1);
    eventually(|| unsealer.cache.lock().is_empty()).await;
    unsealer.open(&row).await.unwrap();
    assert_eq!(fake.calls("Decrypt").len(), 2);
}

#[tokio::test]
async fn old_data_keys_are_not_used_before_they_are_swept_out() {
    let (fake, kms, row) = setup().await;
    let unsealer = Unsealer::new(kms);
    unsealer.open(&row).await.unwrap();
    let cache = Cache {
        entries: Mutex::new(LruCache::new(MAX_ENTRIES)),
        serve_for: Duration::ZERO,
    };
    let expired = Unsealer {
        kms: unsealer.kms.clone(),
        cache: Arc::new(cache),
    };
    expired.open(&row).await.unwrap();
    expired.open(&row).await.unwrap();
    assert_eq!(fake.calls("Decrypt").len(), 3);
}
