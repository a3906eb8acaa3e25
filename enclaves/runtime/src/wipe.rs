//! Wipes memory that held keys: the heap when it is freed, the stack after each step of a request.

use std::alloc::System;
use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;

use zeroizing_alloc::ZeroAlloc;

/// The type of [`ALLOCATOR`].
pub type Allocator = ZeroAlloc<System>;

/// For the `#[global_allocator]` of a program. It also covers what no type of this project wipes:
/// buffers that grow, bodies of requests, the state of libraries.
pub const ALLOCATOR: Allocator = ZeroAlloc(System);

/// Carries out `work` and wipes the stack after each of its steps: values that are moved leave copies
/// there, which no destructor sees.
pub(crate) async fn wiped<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let step = work.as_mut().poll(cx);
        wipe_stack();
        step
    })
    .await
}

/// Overwrites the part of the stack that functions called before may have used.
#[inline(never)]
pub(crate) fn wipe_stack() {
    let mut unused = [0_u8; WIPED_LEN];
    black_box(&mut unused);
}

/// Bytes of the stack that are wiped. Carrying out a request uses less, also in a debug build.
const WIPED_LEN: usize = 128 * 1024;
