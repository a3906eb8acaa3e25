//! The configuration, from the command line and from a file.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Args, Parser};
use cloister_bridge::{AllowList, ConnectAddress, Forward, ForwardLimits, ListenAddress};
use cloister_transport::Address;
use serde::{Deserialize, Deserializer};
use tracing::level_filters::LevelFilter;

/// TCP/IP for enclaves: passes connections between TCP, vsock and unix sockets.
///
/// In the enclave, listen on loopback TCP and connect to vsock; on the parent, listen on vsock and
/// connect over TCP. Inbound it is the other way round. An ADDRESS is tcp:HOST:PORT, vsock:CID:PORT
/// (vsock:any:PORT to listen), unix:PATH or, to connect, hybrid:PATH:PORT.
#[derive(Debug, Parser)]
#[command(name = "vsock-bridge", version)]
pub(crate) struct Arguments {
    /// Read the forwards from a TOML file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "listen", "connect", "source_cid", "connections", "connect_timeout", "idle_timeout"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    forward: ForwardOptions,
    #[command(flatten)]
    options: Options,
    /// Check the configuration, print the forwards and exit
    #[arg(long)]
    pub(crate) check: bool,
    /// Log level: error, warn, info or debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LevelFilter,
}

/// The file; and as flags, which replace everything in the file but the forwards.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Options {
    /// Connect to these TCP destinations only; with =HOST:PORT behind it, to that one instead (may
    /// be repeated)
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    allow: Option<Vec<String>>,
    /// Serve metrics for Prometheus on tcp:127.0.0.1:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    #[serde(deserialize_with = "from_text")]
    metrics: Option<ListenAddress>,
    /// Time for open connections to end after SIGTERM [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<Seconds>,
    /// Threads that pass bytes [default: one for each processor]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    #[arg(skip)]
    forward: Vec<ForwardOptions>,
}

/// One forward, as an entry of the file and as flags.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct ForwardOptions {
    /// Name in logs and metrics [default: the address to listen on]
    #[arg(long)]
    name: Option<String>,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config")]
    #[serde(deserialize_with = "from_text")]
    listen: Option<ListenAddress>,
    /// Address to connect to
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config")]
    #[serde(deserialize_with = "from_text")]
    connect: Option<ConnectAddress>,
    /// Take vsock connections from this context id only (may be repeated)
    #[arg(long, value_name = "CID")]
    source_cid: Option<Vec<u32>>,
    /// Connections at once; more are refused [default: 1024]
    #[arg(long, value_name = "NUMBER")]
    connections: Option<NonZeroU32>,
    /// Time for resolving and connecting [default: 3]
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<Seconds>,
    /// Close a connection on which nothing passes for so long [default: never]
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<Seconds>,
}

/// The configuration of a process.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) forwards: Vec<NamedForward>,
    pub(crate) metrics: Option<ListenAddress>,
    pub(crate) threads: NonZeroUsize,
}

/// A forward, with what is said of it in logs and metrics.
#[derive(Debug)]
pub(crate) struct NamedForward {
    pub(crate) name: String,
    pub(crate) listen: ListenAddress,
    pub(crate) connect: ConnectAddress,
    pub(crate) limits: ForwardLimits,
    pub(crate) forward: Forward,
}

/// The configuration is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("--config {file}: {error}")]
    Unreadable { file: String, error: std::io::Error },
    #[error("{file}: {error}")]
    NotToml {
        file: String,
        error: toml::de::Error,
    },
    #[error("{place}{field}: {problem}")]
    Field {
        place: String,
        field: &'static str,
        problem: String,
    },
}

impl TryFrom<Arguments> for Configuration {
    type Error = ConfigError;

    fn try_from(arguments: Arguments) -> Result<Self, ConfigError> {
        let flags = arguments.options;
        let Some(path) = arguments.config else {
            let place = Place {
                file: None,
                forward: None,
            };
            return Options {
                forward: vec![arguments.forward],
                ..flags
            }
            .check(&place);
        };
        let file = read(&path)?;
        let place = Place {
            file: Some(path.display().to_string()),
            forward: None,
        };
        Options {
            allow: flags.allow.or(file.allow),
            metrics: flags.metrics.or(file.metrics),
            drain: flags.drain.or(file.drain),
            threads: flags.threads.or(file.threads),
            forward: file.forward,
        }
        .check(&place)
    }
}

fn read(path: &Path) -> Result<Options, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        file: file.clone(),
        error,
    })?;
    toml::from_str(&text).map_err(|error| ConfigError::NotToml { file, error })
}

impl Options {
    fn check(self, place: &Place) -> Result<Configuration, ConfigError> {
        let allow = self.allow.map(|entries| match &entries[..] {
            [] => Ok(AllowList::default()),
            entries => entries.join(",").parse::<AllowList>(),
        });
        let allow = allow
            .transpose()
            .map_err(|error| place.error("allow", error))?;
        if let Some(ListenAddress::Socket(Address::Vsock { .. })) = &self.metrics {
            return Err(place.error("metrics", "expected tcp:127.0.0.1:PORT or unix:PATH"));
        }
        if let Some(ListenAddress::Tcp(address)) = &self.metrics
            && !address.ip().is_loopback()
        {
            return Err(place.error("metrics", "is served on a loopback address only"));
        }
        if self.forward.is_empty() {
            return Err(place.error("forward", "there is none"));
        }
        let drain = self
            .drain
            .map_or(ForwardLimits::default().drain, |Seconds(drain)| drain);
        let mut forwards = Vec::new();
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (index, options) in self.forward.into_iter().enumerate() {
            let place = place.of_forward(index, options.name.as_deref());
            let forward = options.check(&place, allow.as_ref(), drain)?;
            if !addresses.insert(forward.listen.to_string()) && !is_any_port(&forward.listen) {
                return Err(place.error("listen", format_args!("duplicate `{}`", forward.listen)));
            }
            if !names.insert(forward.name.clone()) {
                return Err(place.error("name", format_args!("duplicate `{}`", forward.name)));
            }
            forwards.push(forward);
        }
        let threads = self
            .threads
            .or_else(|| available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN);
        Ok(Configuration {
            forwards,
            metrics: self.metrics,
            threads,
        })
    }
}

fn is_any_port(listen: &ListenAddress) -> bool {
    matches!(listen, ListenAddress::Tcp(address) if address.port() == 0)
}

impl ForwardOptions {
    fn check(
        self,
        place: &Place,
        allow: Option<&AllowList>,
        drain: Duration,
    ) -> Result<NamedForward, ConfigError> {
        let listen = self
            .listen
            .ok_or_else(|| place.error("listen", "is missing"))?;
        let mut connect = self
            .connect
            .ok_or_else(|| place.error("connect", "is missing"))?;
        if let (Some(allow), ConnectAddress::Tcp(destination)) = (allow, &connect) {
            connect = match allow.target(&destination.to_string()) {
                Some(target) => ConnectAddress::Tcp(target.clone()),
                None => {
                    return Err(place.error(
                        "connect",
                        format_args!("`{connect}` is not allowed (see allow)"),
                    ));
                }
            };
        }
        let default = ForwardLimits::default();
        let limits = ForwardLimits {
            connections: match self.connections {
                Some(connections) => usize::try_from(connections.get())
                    .map_err(|error| place.error("connections", error))?,
                None => default.connections,
            },
            connect: timeout(self.connect_timeout, "connect-timeout", place)?
                .unwrap_or(default.connect),
            idle: timeout(self.idle_timeout, "idle-timeout", place)?,
            drain,
        };
        let mut forward = Forward::new(listen.clone(), connect.clone(), limits);
        if let Some(source_cid) = self.source_cid {
            if !matches!(listen, ListenAddress::Socket(Address::Vsock { .. })) {
                return Err(place.error(
                    "source-cid",
                    format_args!("`{listen}` is not a vsock address to listen on"),
                ));
            }
            if source_cid.is_empty() {
                return Err(place.error("source-cid", "admits no source"));
            }
            forward = forward.only_from(source_cid);
        }
        let name = self.name.unwrap_or_else(|| listen.to_string());
        Ok(NamedForward {
            name,
            listen,
            connect,
            limits,
            forward,
        })
    }
}

fn timeout(
    seconds: Option<Seconds>,
    field: &'static str,
    place: &Place,
) -> Result<Option<Duration>, ConfigError> {
    match seconds {
        Some(Seconds(Duration::ZERO)) => Err(place.error(field, "must be more than 0")),
        seconds => Ok(seconds.map(|Seconds(duration)| duration)),
    }
}

/// The place of a mistake.
#[derive(Debug)]
struct Place {
    /// `None` for the command line.
    file: Option<String>,
    forward: Option<String>,
}

impl Place {
    fn of_forward(&self, index: usize, name: Option<&str>) -> Self {
        let name = name.map_or_else(|| (index + 1).to_string(), |name| format!("`{name}`"));
        Self {
            file: self.file.clone(),
            forward: Some(name),
        }
    }

    fn error(&self, field: &'static str, problem: impl Display) -> ConfigError {
        let place = match (&self.file, &self.forward) {
            (None, _) => "--".to_owned(),
            (Some(file), None) => format!("{file}: "),
            (Some(file), Some(forward)) => format!("{file}: forward {forward}: "),
        };
        ConfigError::Field {
            place,
            field,
            problem: problem.to_string(),
        }
    }
}

/// A duration, written in seconds.
#[derive(Clone, Copy, Debug)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>()
            .map_err(|error| error.to_string())?
            .try_into()
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if duration <= LONGEST => Ok(Self(duration)),
            _ => Err(format!(
                "{seconds} is not a number of seconds from 0 to {}",
                LONGEST.as_secs()
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// A week: whatever is longer is a mistake.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_flags(flags: &[&str]) -> Result<Configuration, String> {
        let arguments = Arguments::try_parse_from([&["vsock-bridge"], flags].concat())
            .map_err(|e| e.to_string())?;
        Configuration::try_from(arguments).map_err(|error| error.to_string())
    }

    fn of_file(text: &str, flags: &[&str]) -> Result<Configuration, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.toml");
        std::fs::write(&path, text).unwrap();
        of_flags(&[&["--config", path.to_str().unwrap()], flags].concat())
    }

    #[test]
    fn a_file_says_what_flags_say() {
        let of_flags = of_flags(&[
            "--name=kms",
            "--listen=vsock:any:8001",
            "--connect=tcp:kms.test:443",
            "--source-cid=16",
            "--source-cid=17",
            "--connections=10",
            "--connect-timeout=0.5",
            "--idle-timeout=300",
            "--allow=dynamodb.test:443,kms.test:443=vpce.test:444",
            "--metrics=tcp:127.0.0.1:9100",
            "--drain=0",
            "--threads=2",
        ]);
        let of_file = of_file(
            r#"
            allow = ["dynamodb.test:443", "kms.test:443=vpce.test:444"]
            metrics = "tcp:127.0.0.1:9100"
            drain = 0
            threads = 2

            [[forward]]
            name = "kms"
            listen = "vsock:any:8001"
            connect = "tcp:kms.test:443"
            source-cid = [16, 17]
            connections = 10
            connect-timeout = 0.5
            idle-timeout = 300
            "#,
            &[],
        );
        let config = of_flags.unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", of_file.unwrap()));
        assert_eq!(config.forwards[0].connect.to_string(), "tcp:vpce.test:444");
        let limits = ForwardLimits {
            connections: 10,
            connect: Duration::from_millis(500),
            idle: Some(Duration::from_secs(300)),
            drain: Duration::ZERO,
        };
        assert_eq!(config.forwards[0].limits, limits);
    }

    #[test]
    fn flags_replace_what_the_file_says() {
        let text = r#"
            allow = ["a.test:1"]
            [[forward]]
            listen = "tcp:127.0.0.1:8001"
            connect = "tcp:a.test:1"
        "#;
        let config = of_file(text, &["--threads=3", "--metrics=unix:/run/m.sock"]).unwrap();
        assert_eq!(
            (config.threads.get(), config.metrics.unwrap().to_string()),
            (3, "unix:/run/m.sock".to_owned())
        );
        assert_eq!(config.forwards[0].name, "tcp:127.0.0.1:8001");
        let refused = of_file(text, &["--allow=b.test:1"]).unwrap_err();
        assert!(refused.ends_with(
            "bridge.toml: forward 1: connect: `tcp:a.test:1` is not allowed (see allow)"
        ));
    }

    #[test]
    fn mistakes_in_flags_name_the_flag() {
        let listen = "--listen=tcp:127.0.0.1:1";
        let connect = "--connect=tcp:a.test:1";
        for (flags, named) in [
            (&[][..], "--listen <ADDRESS>"),
            (&[listen], "--connect <ADDRESS>"),
            (
                &["--listen=tcp:localhost:1", connect],
                "--listen <ADDRESS>': `tcp:localhost:1`: expected tcp:IP:PORT",
            ),
            (
                &[listen, "--connect=a.test:1"],
                "--connect <ADDRESS>': `a.test:1`: expected",
            ),
            (&[listen, "--connect=vsock:any:1"], "--connect"),
            (
                &[listen, connect, "--source-cid=16"],
                "--source-cid: `tcp:127.0.0.1:1` is not a vsock address",
            ),
            (&[listen, connect, "--source-cid=x"], "--source-cid <CID>"),
            (
                &[listen, connect, "--connections=0"],
                "--connections <NUMBER>",
            ),
            (
                &[listen, connect, "--connect-timeout=0"],
                "--connect-timeout: must be more than 0",
            ),
            (
                &[listen, connect, "--connect-timeout=-1"],
                "--connect-timeout <SECONDS>': -1 is not a number",
            ),
            (
                &[listen, connect, "--idle-timeout=NaN"],
                "--idle-timeout <SECONDS>",
            ),
            (
                &[listen, connect, "--idle-timeout=0"],
                "--idle-timeout: must be more than 0",
            ),
            (&[listen, connect, "--drain=1e99"], "--drain <SECONDS>"),
            (&[listen, connect, "--threads=0"], "--threads <NUMBER>"),
            (
                &[listen, connect, "--metrics=tcp:0.0.0.0:1"],
                "--metrics: is served on a loopback address only",
            ),
            (
                &[listen, connect, "--metrics=vsock:any:1"],
                "--metrics: expected",
            ),
            (
                &[listen, connect, "--allow=b.test:1"],
                "--connect: `tcp:a.test:1` is not allowed",
            ),
            (
                &[listen, connect, "--allow=b.test"],
                "--allow: `b.test`: expected host:port",
            ),
            (
                &[listen, connect, "--config=x"],
                "cannot be used with '--config <FILE>'",
            ),
            (
                &["--config=/nowhere/x.toml"],
                "--config /nowhere/x.toml: No such file",
            ),
        ] {
            let problem = of_flags(flags).unwrap_err();
            assert!(problem.contains(named), "{flags:?}: {problem}");
        }
    }

    #[test]
    fn mistakes_in_a_file_name_the_field() {
        let good = "[[forward]]\nlisten = 'tcp:127.0.0.1:1'\nconnect = 'tcp:a.test:1'\n";
        for (text, named) in [
            ("", "bridge.toml: forward: there is none"),
            (
                "[[forward]]\nconnect = 'unix:/a'",
                "forward 1: listen: is missing",
            ),
            (
                "[[forward]]\nname = 'x'\nlisten = 'unix:/a'",
                "forward `x`: connect: is missing",
            ),
            (
                "[[forward]]\nlisten = 'tcp:localhost:1'",
                "listen = 'tcp:localhost:1'",
            ),
            ("[[forward]]\nlisten = 1", "listen = 1"),
            (&format!("{good}timeout = 3"), "unknown field `timeout`"),
            (&format!("{good}idle-timeout = -3"), "idle-timeout = -3"),
            (
                &format!("{good}idle-timeout = 0"),
                "forward 1: idle-timeout: must be more than 0",
            ),
            (
                &format!("{good}source-cid = [16]"),
                "forward 1: source-cid: `tcp:127.0.0.1:1` is not a vsock address",
            ),
            (
                "[[forward]]\nlisten = 'vsock:any:1'\nconnect = 'unix:/a'\nsource-cid = []",
                "source-cid: admits no source",
            ),
            (
                &format!("{good}{good}"),
                "forward 2: listen: duplicate `tcp:127.0.0.1:1`",
            ),
            (
                "[[forward]]\nname = 'x'\nlisten = 'unix:/a'\nconnect = 'unix:/b'\n\
                 [[forward]]\nname = 'x'\nlisten = 'unix:/c'\nconnect = 'unix:/d'",
                "forward `x`: name: duplicate `x`",
            ),
            (
                &format!("allow = []\n{good}"),
                "forward 1: connect: `tcp:a.test:1` is not allowed",
            ),
            (
                &format!("allow = ['*']\n{good}"),
                "bridge.toml: allow: `*`: expected host:port",
            ),
            (
                &format!("metrics = 'tcp:192.0.2.1:1'\n{good}"),
                "bridge.toml: metrics: is served on a loopback",
            ),
            (&format!("drain = 'x'\n{good}"), "drain = 'x'"),
        ] {
            let problem = of_file(text, &[]).unwrap_err();
            assert!(problem.contains(named), "{text}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(text in "(allow|metrics|drain|forward|listen|[\\[\\]='\":.0-9a-z \n]){0,40}") {
            if let Ok(options) = toml::from_str::<Options>(&text) {
                let _ = options.check(&Place { file: None, forward: None });
            }
        }
    }
}
