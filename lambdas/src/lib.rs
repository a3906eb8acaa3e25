//! cloister-lambdas
