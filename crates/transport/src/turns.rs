//! Fair shares of the processor for work and for everything else.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Carries out `work` so that the runtime looks for arrivals before each of its steps, and so that
/// no more steps are ready at once than `turns` has permits.
///
/// A step of a large request takes milliseconds, on an emulated processor a hundred of them. The
/// runtime polls ready tasks in order and looks at sockets only now and then: a few hundred such
/// steps would keep the pod's question about health waiting for seconds.
pub(crate) async fn in_turn<F: Future>(turns: &Semaphore, work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        let turn = turns
            .acquire()
            .await
            .expect("the semaphore is never closed");
        yield_now().await;
        let step = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        drop(turn);
        if let Poll::Ready(output) = step {
            return output;
        }
        suspend().await;
    }
}

/// Waits for the next wake-up of this task, whatever causes it.
async fn suspend() {
    let mut woken = false;
    poll_fn(|_| {
        if woken {
            return Poll::Ready(());
        }
        woken = true;
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn the_output_comes_through_whatever_the_work_waits_for() {
        let turns = Semaphore::new(1);
        let output = in_turn(&turns, async {
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
            7
        })
        .await;
        assert_eq!((output, turns.available_permits()), (7, 1));
    }

    #[tokio::test]
    async fn a_message_arrives_between_two_steps_of_work() {
        const STEP: Duration = Duration::from_millis(10);
        let turns = Arc::new(Semaphore::new(1));
        let work: Vec<_> = (0..100)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { in_turn(&turns, async { spin(STEP) }).await })
            })
            .collect();
        // The peer answers from a thread of its own, as a pod does.
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer =
            std::thread::spawn(move || std::io::copy(&mut far.try_clone().unwrap(), &mut far));
        near.set_nonblocking(true).unwrap();
        let mut near = tokio::net::UnixStream::from_std(near).unwrap();
        let began = Instant::now();
        for _ in 0..5 {
            near.write_all(b"?").await.unwrap();
            near.read_exact(&mut [0]).await.unwrap();
        }
        let waited = began.elapsed();
        assert!(
            work.iter().any(|task| !task.is_finished()),
            "the work ended before the answers came: {waited:?}"
        );
        for task in work {
            task.await.unwrap();
        }
        drop(near);
        peer.join().unwrap().unwrap();
    }

    fn spin(time: Duration) {
        let began = std::time::Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}
