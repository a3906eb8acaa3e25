//! The allocator of the programs that hold keys: memory is wiped when it is freed.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// The type of [`ALLOCATOR`].
pub type Allocator = ZeroAlloc<System>;

/// For the `#[global_allocator]` of a program. It also covers what no type of ours wipes: buffers that
/// grow, bodies of requests, the state of libraries.
pub const ALLOCATOR: Allocator = ZeroAlloc(System);
