//! The `front-door` function: composes the library with the Lambda runtime.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::time::SystemTime;

use cloister_lambdas::{FrontDoor, Pods, Settings};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Fixed, not from the environment: no setting can turn on a library's log of what travels.
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::new("warn,cloister_lambdas=info"))
        .init();
    // A panic's message may quote its input; its place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic");
    }));
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function ends");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let front_door = FrontDoor::new(Pods::new(&settings)?, SystemTime::now);
    let front_door = &front_door;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
        Ok::<_, Infallible>(front_door.answer(&event.payload, &event.context.request_id).await)
    }))
    .await
}
