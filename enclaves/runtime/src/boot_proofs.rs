//! The queue for boot proofs, which unauthenticated clients may ask for.

use std::sync::Arc;
use std::time::Duration;

use cloister_nsm::Nsm;
use cloister_protocol::message::BootProof;
use cloister_protocol::{Code, Rejection};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::boot_key::BootKey;

/// Makes boot proofs one after another, in the order of the requests: a client that asks again and
/// again delays others, but does not keep them out.
pub(crate) struct BootProofs {
    prover: Arc<Mutex<Prover>>,
    /// Places in the queue, the one of the proof that is being made included.
    places: Arc<Semaphore>,
    deadline: Duration,
}

struct Prover {
    key: BootKey,
    nsm: Arc<dyn Nsm>,
}

impl BootProofs {
    pub(crate) fn new(key: BootKey, nsm: Arc<dyn Nsm>) -> Self {
        Self {
            prover: Arc::new(Mutex::new(Prover { key, nsm })),
            places: Arc::new(Semaphore::new(MAX_REQUESTS)),
            deadline: DEADLINE,
        }
    }

    /// A proof for the client that chose `nonce`.
    ///
    /// # Errors
    /// [`Code::InvalidField`] if the nonce does not have 16 to 64 bytes; [`Code::Busy`] if too many
    /// requests wait already or the turn did not come in time.
    pub(crate) async fn prove(&self, nonce: &[u8]) -> Result<BootProof, Rejection> {
        let busy = || Rejection::new(Code::Busy, "too many requests for a proof; try again");
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| busy())?;
        let prover = timeout(self.deadline, self.prover.clone().lock_owned())
            .await
            .map_err(|_| busy())?;
        let nonce = nonce.to_vec();
        tokio::task::spawn_blocking(move || {
            // Turn and place are held until the NSM has answered, even if the client is gone.
            let _place = place;
            prover.key.prove(&nonce, prover.nsm.as_ref())
        })
        .await
        .map_err(|_| Rejection::new(Code::Internal, "the enclave is shutting down"))?
    }
}

/// Requests that may wait at once.
const MAX_REQUESTS: usize = 64;
/// Longest wait for a turn. The NSM takes milliseconds for a proof.
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use cloister_nsm_software::{Pki, SoftwareNsm};

    use super::*;
    use crate::fake_nsm::FakeNsm;

    /// Proofs that each wait for a permission, and the nonces in the order of the proofs.
    fn held(deadline: Duration) -> (Arc<BootProofs>, Sender<()>, Receiver<Vec<u8>>) {
        let pki = Pki::generate().unwrap();
        let software = SoftwareNsm::new(&pki, [(0, [7; 48])].into()).unwrap();
        let scalar = software.make_boot_key().unwrap();
        let key = BootKey::receive(scalar.as_ref(), &software).unwrap();
        let ((go_on, permitted), (nonce, nonces)) = (channel(), channel());
        let (permitted, nonce) = (StdMutex::new(permitted), StdMutex::new(nonce));
        let nsm = FakeNsm {
            attest: Box::new(move |claims| {
                let _ = nonce.lock().unwrap().send(claims.nonce.clone().unwrap());
                permitted.lock().unwrap().recv().unwrap();
                Ok(vec![1])
            }),
            ..FakeNsm::default()
        };
        let proofs = BootProofs {
            deadline,
            ..BootProofs::new(key, Arc::new(nsm))
        };
        (Arc::new(proofs), go_on, nonces)
    }

    fn ask(proofs: &Arc<BootProofs>, nonce: u8) -> tokio::task::JoinHandle<Option<Code>> {
        let proofs = proofs.clone();
        tokio::spawn(async move { proofs.prove(&[nonce; 16]).await.err().map(|no| no.code) })
    }

    #[tokio::test]
    async fn a_client_that_asks_again_and_again_does_not_keep_others_out() {
        let (proofs, go_on, nonces) = held(Duration::from_secs(60));
        let greedy: Vec<_> = (0..MAX_REQUESTS / 2).map(|_| ask(&proofs, 1)).collect();
        while proofs.places.available_permits() > MAX_REQUESTS / 2 {
            tokio::task::yield_now().await;
        }
        let operator = ask(&proofs, 2);
        while proofs.places.available_permits() > MAX_REQUESTS / 2 - 1 {
            tokio::task::yield_now().await;
        }
        let late: Vec<_> = (0..MAX_REQUESTS / 2 - 1).map(|_| ask(&proofs, 1)).collect();
        while proofs.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&proofs, 3).await.unwrap(), Some(Code::Busy));
        for _ in 0..MAX_REQUESTS {
            go_on.send(()).unwrap();
        }
        assert_eq!(operator.await.unwrap(), None);
        for request in greedy.into_iter().chain(late) {
            assert_eq!(request.await.unwrap(), None);
        }
        let turn = nonces.try_iter().position(|nonce| nonce == [2; 16]);
        assert_eq!(turn, Some(MAX_REQUESTS / 2));
        assert_eq!(proofs.places.available_permits(), MAX_REQUESTS);
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_is_busy() {
        let (proofs, go_on, nonces) = held(Duration::from_millis(20));
        let first = ask(&proofs, 1);
        tokio::task::spawn_blocking(move || nonces.recv().unwrap())
            .await
            .unwrap();
        assert_eq!(ask(&proofs, 2).await.unwrap(), Some(Code::Busy));
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap(), None);
        assert_eq!(proofs.places.available_permits(), MAX_REQUESTS);
    }
}
