use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cloister_nsm::{Description, Pcr, Refusal};

use super::*;
use crate::fake_kms::{claim, software_nsm};

/// The software NSM, counting and on demand refusing.
struct Counting {
    inner: Arc<dyn Nsm>,
    documents: AtomicUsize,
    refuse: std::sync::atomic::AtomicBool,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: software_nsm(),
            documents: AtomicUsize::new(0),
            refuse: false.into(),
        })
    }

    fn documents(&self) -> usize {
        self.documents.load(Ordering::SeqCst)
    }
}

impl Nsm for Counting {
    fn describe(&self) -> Result<Description, NsmError> {
        self.inner.describe()
    }

    fn random(&self, out: &mut [u8]) -> Result<(), NsmError> {
        self.inner.random(out)
    }

    fn attest(&self, claims: &Claims) -> Result<Vec<u8>, NsmError> {
        self.documents.fetch_add(1, Ordering::SeqCst);
        if self.refuse.load(Ordering::SeqCst) {
            return Err(Refusal::Internal.into());
        }
        self.inner.attest(claims)
    }

    fn describe_pcr(&self, index: u16) -> Result<Pcr, NsmError> {
        self.inner.describe_pcr(index)
    }

    fn extend_pcr(&self, index: u16, data: &[u8]) -> Result<[u8; 48], NsmError> {
        self.inner.extend_pcr(index, data)
    }

    fn lock_pcr(&self, index: u16) -> Result<(), NsmError> {
        self.inner.lock_pcr(index)
    }

    fn lock_pcrs(&self, range: u16) -> Result<(), NsmError> {
        self.inner.lock_pcrs(range)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn ages(document: Duration, key: Duration, interval: Duration) -> Ages {
    Ages {
        max_document: document,
        max_key: key,
        interval,
    }
}

async fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never held");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_document_vouches_for_the_key_and_is_used_again() {
    let nsm = Counting::new();
    let recipient = Recipient::start(nsm.clone());
    let first = recipient.attested().await.unwrap();
    assert_eq!(
        claim(&first.document, "public_key"),
        first.key.public_key_der()
    );
    assert_eq!(claim(&first.document, "user_data"), KMS_DOCUMENT_TAG);
    // The SubjectPublicKeyInfo of an RSA-2048 key has 294 bytes.
    assert_eq!(first.key.public_key_der().len(), 294);
    for _ in 0..10 {
        assert_eq!(recipient.attested().await.unwrap().document, first.document);
    }
    assert_eq!(nsm.documents(), 1);
}

#[tokio::test]
async fn a_burst_on_an_old_document_asks_the_nsm_once() {
    let nsm = Counting::new();
    let recipient =
        Recipient::start_with(nsm.clone(), ages(Duration::from_millis(500), HOUR, HOUR));
    let first = recipient.attested().await.unwrap();
    eventually(|| first.attested.age() > Duration::from_millis(500)).await;
    let burst: Vec<_> = (0..50)
        .map(|_| {
            let recipient = recipient.clone();
            tokio::spawn(async move { recipient.attested().await.unwrap() })
        })
        .collect();
    for attested in burst {
        let attested = attested.await.unwrap();
        assert_ne!(attested.document, first.document);
        assert!(Arc::ptr_eq(&attested.key, &first.key), "the key is not old");
    }
    assert_eq!(nsm.documents(), 2);
}

#[tokio::test]
async fn the_background_renews_before_anybody_has_to_wait() {
    let nsm = Counting::new();
    let interval = Duration::from_millis(5);
    let recipient = Recipient::start_with(
        nsm.clone(),
        ages(Duration::from_millis(200), HOUR, interval),
    );
    eventually(|| nsm.documents() >= 4).await;
    drop(recipient);
    // The background ends with the last reference.
    eventually(|| Arc::strong_count(&nsm) == 1).await;
}

#[tokio::test]
async fn keys_are_rotated_and_those_in_use_still_decrypt() {
    use cloister_kms_envelope::{Form, encrypt};

    let nsm = Counting::new();
    let lives = ages(HOUR, Duration::from_millis(300), Duration::from_millis(20));
    let recipient = Recipient::start_with(nsm.clone(), lives);
    let first = recipient.attested().await.unwrap();
    eventually(|| {
        recipient
            .current()
            .is_some_and(|current| !Arc::ptr_eq(&current.key, &first.key))
    })
    .await;
    let second = recipient.current().unwrap();
    assert_eq!(
        claim(&second.document, "public_key"),
        second.key.public_key_der()
    );
    let reply = encrypt(first.key.public_key_der(), &[7; 32], Form::Chunks(48)).unwrap();
    assert!(crate::cms::unwrap_data_key(&first.key, &reply).is_ok());
    assert!(crate::cms::unwrap_data_key(&second.key, &reply).is_err());
}

#[tokio::test]
async fn an_nsm_that_refuses_is_asked_again() {
    let nsm = Counting::new();
    nsm.refuse.store(true, Ordering::SeqCst);
    let recipient = Recipient::start_with(nsm.clone(), ages(Duration::ZERO, HOUR, HOUR));
    assert!(matches!(
        recipient.attested().await,
        Err(RecipientError::Nsm(_))
    ));
    nsm.refuse.store(false, Ordering::SeqCst);
    recipient.attested().await.unwrap();
    nsm.refuse.store(true, Ordering::SeqCst);
    assert!(
        recipient.attested().await.is_err(),
        "an old document is never used"
    );
    nsm.refuse.store(false, Ordering::SeqCst);
    recipient.attested().await.unwrap();
}
