//! One queue in front of the NSM, because its driver serialises: calls for KMS and the clock go
//! first, so that requests for public attestation documents cannot starve them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use cloister_nsm::{Claims, Description, Nsm, NsmError, Pcr, Refusal};
use zeroize::Zeroizing;

/// The order in which calls are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Calls that the enclave's own work waits for: documents for KMS, the clock, randomness.
    Work = 0,
    /// Calls on behalf of unauthenticated clients.
    Public = 1,
}

/// The only way to the NSM of this enclave. Its thread ends when the queue and all handles are
/// gone.
#[derive(Debug)]
pub struct NsmQueue {
    entrance: Arc<Entrance>,
}

impl NsmQueue {
    /// Starts the thread that owns `nsm`.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn start(nsm: Arc<dyn Nsm>) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let entrance = Arc::new(Entrance(queue.clone()));
        thread::Builder::new()
            .name("nsm".into())
            .spawn(move || queue.work_off(nsm.as_ref()))?;
        Ok(Self { entrance })
    }

    /// An NSM whose calls wait in this queue and block their thread. Callers bound the number of
    /// waiting calls.
    pub fn handle(&self, priority: Priority) -> Arc<dyn Nsm> {
        Arc::new(Handle {
            entrance: self.entrance.clone(),
            priority,
        })
    }
}

type Job = Box<dyn FnOnce(&dyn Nsm) + Send>;

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// By [`Priority`].
    jobs: [VecDeque<Job>; 2],
    closed: bool,
}

impl Queue {
    fn work_off(&self, nsm: &dyn Nsm) {
        while let Some(job) = self.next() {
            // After a panic the caller gets no answer, which it treats as a failure; the others go on.
            let _ = catch_unwind(AssertUnwindSafe(|| job(nsm)));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.jobs.iter_mut().find_map(VecDeque::pop_front) {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting = self
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No code panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Closes the queue when its last handle is dropped.
#[derive(Debug)]
struct Entrance(Arc<Queue>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_one();
    }
}

struct Handle {
    entrance: Arc<Entrance>,
    priority: Priority,
}

impl Handle {
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Nsm) -> Result<T, NsmError> + Send + 'static,
    ) -> Result<T, NsmError> {
        let (answer, answered) = sync_channel(1);
        let queue = &self.entrance.0;
        queue.lock().jobs[self.priority as usize].push_back(Box::new(move |nsm| {
            // An error means that the caller is gone.
            let _ = answer.send(call(nsm));
        }));
        queue.arrived.notify_one();
        answered
            .recv()
            .unwrap_or(Err(NsmError::Refused(Refusal::Internal)))
    }
}

impl Nsm for Handle {
    fn describe(&self) -> Result<Description, NsmError> {
        self.call(|nsm| nsm.describe())
    }

    fn random(&self, out: &mut [u8]) -> Result<(), NsmError> {
        let length = out.len();
        out.fill(0);
        let bytes = self.call(move |nsm| {
            let mut bytes = Zeroizing::new(vec![0; length]);
            nsm.random(&mut bytes)?;
            Ok(bytes)
        })?;
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn attest(&self, claims: &Claims) -> Result<Vec<u8>, NsmError> {
        let claims = claims.clone();
        self.call(move |nsm| nsm.attest(&claims))
    }

    fn describe_pcr(&self, index: u16) -> Result<Pcr, NsmError> {
        self.call(move |nsm| nsm.describe_pcr(index))
    }

    fn extend_pcr(&self, index: u16, data: &[u8]) -> Result<[u8; 48], NsmError> {
        let data = data.to_vec();
        self.call(move |nsm| nsm.extend_pcr(index, &data))
    }

    fn lock_pcr(&self, index: u16) -> Result<(), NsmError> {
        self.call(move |nsm| nsm.lock_pcr(index))
    }

    fn lock_pcrs(&self, range: u16) -> Result<(), NsmError> {
        self.call(move |nsm| nsm.lock_pcrs(range))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::fake_nsm::FakeNsm;

    /// A queue before an NSM that reports which register it was asked for and answers when the test
    /// permits it; `describe` panics.
    fn held() -> (NsmQueue, Receiver<u16>, Sender<()>) {
        let ((asked, questions), (go_on, permitted)) = (channel(), channel());
        let (asked, permitted) = (Mutex::new(asked), Mutex::new(permitted));
        let nsm = FakeNsm {
            describe: Box::new(|| panic!("an NSM that panics")),
            describe_pcr: Box::new(move |index| {
                asked.lock().unwrap().send(index).unwrap();
                permitted.lock().unwrap().recv().unwrap();
                Ok(Pcr {
                    locked: true,
                    value: [0; 48],
                })
            }),
            ..FakeNsm::default()
        };
        (NsmQueue::start(Arc::new(nsm)).unwrap(), questions, go_on)
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "it did not happen in time");
            thread::yield_now();
        }
    }

    #[test]
    fn work_goes_before_the_public() {
        let (queue, questions, go_on) = held();
        let ask = |priority, index| {
            let nsm = queue.handle(priority);
            let waiting = || {
                queue
                    .entrance
                    .0
                    .lock()
                    .jobs
                    .iter()
                    .map(VecDeque::len)
                    .sum::<usize>()
            };
            let before = waiting();
            let asking = thread::spawn(move || nsm.describe_pcr(index).unwrap());
            (asking, before, waiting)
        };
        // The first is being answered, so that all others wait.
        let (first, ..) = ask(Priority::Public, 0);
        assert_eq!(questions.recv().unwrap(), 0);
        let mut asking = vec![first];
        for (priority, index) in [
            (Priority::Public, 3),
            (Priority::Public, 4),
            (Priority::Work, 1),
            (Priority::Work, 2),
        ] {
            let (thread, before, waiting) = ask(priority, index);
            until(|| waiting() > before);
            asking.push(thread);
        }
        for _ in &asking {
            go_on.send(()).unwrap();
        }
        assert_eq!(questions.iter().take(4).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for thread in asking {
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_panic_is_a_refusal_and_the_next_is_served() {
        let (queue, _questions, go_on) = held();
        let nsm = queue.handle(Priority::Work);
        assert!(matches!(
            nsm.describe(),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        go_on.send(()).unwrap();
        nsm.describe_pcr(0).unwrap();
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let (queue, questions, _go_on) = held();
        let nsm = queue.handle(Priority::Public);
        drop(queue);
        assert!(
            matches!(nsm.describe(), Err(NsmError::Refused(_))),
            "it lives while there is a handle"
        );
        drop(nsm);
        // The sender belongs to the NSM, which the thread owned.
        assert!(questions.recv_timeout(Duration::from_secs(10)).is_err());
        until(|| questions.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}
