//! The gateway before a function that is a task of the test in place of a process.

mod answers;
mod processes;
mod setup;
mod signatures;
