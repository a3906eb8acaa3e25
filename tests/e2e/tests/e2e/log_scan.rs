//! No secret is logged, at any log level.

use cloister_e2e::{Local, log_scan};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_down() {
    log_scan::no_secret_is_written_down(&Local::start_with(Some("trace")).await).await;
}
