//! The `front-door` function: runs the library in the Lambda runtime.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::time::SystemTime;

use cloister_contract::{ErrorChain, events};
use cloister_lambdas::{FrontDoor, Pods, Settings};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Not from the environment: no setting can enable a library's log of requests.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("cloister_lambdas", LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false),
        )
        .with(filter)
        .init();
    // A panic's message may quote its input; the place suffices to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(event = events::PANICKED, place, "panicked");
    }));
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(
                event = events::PROGRAM_FAILED,
                error = %ErrorChain(&*error),
                "the function ends"
            );
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let front_door = FrontDoor::new(Pods::new(&settings)?, SystemTime::now);
    let front_door = &front_door;
    lambda_runtime::run(service_fn(
        move |event: LambdaEvent<Box<RawValue>>| async move {
            Ok::<_, Infallible>(
                front_door
                    .answer(&event.payload, &event.context.request_id)
                    .await,
            )
        },
    ))
    .await
}
