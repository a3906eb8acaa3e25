//! The queue of invocations between the server and the workers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};

/// One event that waits for an answer.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) id: String,
    pub(crate) event: Bytes,
    pub(crate) answer: oneshot::Sender<Outcome>,
}

/// The result of an invocation.
pub(crate) type Outcome = Result<Bytes, FunctionError>;

/// A function without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FunctionError {
    /// The function's own error object.
    Reported(Bytes),
    /// Its process ended.
    Exited,
    /// Its time ran out.
    TimedOut(Duration),
}

/// The server's end.
#[derive(Clone, Debug)]
pub(crate) struct Invoker(mpsc::Sender<Invocation>);

/// The workers' end.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Mutex<mpsc::Receiver<Invocation>>>);

/// Both ends of a queue of invocations.
pub(crate) fn channel() -> (Invoker, Queue) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Invoker(sender), Queue(Arc::new(Mutex::new(receiver))))
}

impl Invoker {
    /// Has `event` carried out; waits for a free worker and its answer. Dropping the future takes
    /// the event back if no worker has it yet. `id` is the function's request id.
    pub(crate) async fn invoke(&self, id: String, event: Bytes) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let invocation = Invocation { id, event, answer };
        self.0
            .send(invocation)
            .await
            .map_err(|_| FunctionError::Exited)?;
        outcome.await.unwrap_or(Err(FunctionError::Exited))
    }
}

impl Queue {
    /// The next invocation that is still waited for. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&self) -> Option<Invocation> {
        let mut receiver = self.0.lock().await;
        loop {
            let invocation = receiver.recv().await?;
            if !invocation.answer.is_closed() {
                return Some(invocation);
            }
        }
    }
}

impl FunctionError {
    /// The error object that a direct invoke is answered with.
    pub(crate) fn body(&self) -> Bytes {
        let described = |kind: &str, message: String| {
            serde_json::json!({ "errorType": kind, "errorMessage": message })
                .to_string()
                .into()
        };
        match self {
            Self::Reported(body) => body.clone(),
            Self::Exited => described("Runtime.ExitError", "Runtime exited".into()),
            Self::TimedOut(after) => described(
                "Sandbox.Timedout",
                format!("Task timed out after {:.2} seconds", after.as_secs_f64()),
            ),
        }
    }
}

/// Events that wait for a worker; more wait before the queue.
const MAX_WAITING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_reach_their_invocation_and_abandoned_ones_are_skipped() {
        let (invoker, queue) = channel();
        let abandoned = tokio::time::timeout(
            Duration::from_millis(1),
            invoker.invoke("1".into(), "abandoned".into()),
        )
        .await;
        assert!(abandoned.is_err());

        let waiting =
            tokio::spawn(async move { invoker.invoke("2".into(), "wanted".into()).await });
        let invocation = queue.next().await.unwrap();
        assert_eq!(invocation.event, "wanted");
        invocation.answer.send(Ok("result".into())).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok("result".into()));
        // The last server end is gone.
        assert!(queue.next().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_invocation_is_an_error() {
        let (invoker, queue) = channel();
        let (outcome, ()) = tokio::join!(invoker.invoke("1".into(), "x".into()), async {
            drop(queue.next().await)
        });
        assert_eq!(outcome, Err(FunctionError::Exited));
    }
}
