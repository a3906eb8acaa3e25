//! The process of the stand-in for AWS.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::{cache, python};

/// The process; it ends when this is dropped.
pub(crate) struct Ministack {
    process: Child,
    port: u16,
}

impl Ministack {
    /// With `authentication`, signatures and policies are enforced.
    pub(crate) fn start(authentication: bool) -> Self {
        let requirements = workspace_root().join("cdk/test/ministack.txt");
        let requirements = std::fs::read_to_string(requirements).unwrap();
        let mut python = python::with_packages("ministack", &requirements, &[]).unwrap();
        let directory = target_directory().join("ministack");
        cache::remove_dir_all(&directory).unwrap();
        std::fs::create_dir_all(&directory).unwrap();
        let port = free_port();
        python
            .args(["-c", "from ministack.app import main; main()"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("TMPDIR", &directory)
            .env("STATE_DIR", &directory)
            // On loopback alone, and functions as processes.
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("IOT_MTLS_ENABLED", "0")
            .env("AUTH", authentication.to_string())
            .env("LAMBDA_EXECUTOR", "local");
        let mut ministack = Self {
            process: python.spawn().unwrap(),
            port,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = ministack.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "ministack does not start: {ended:?}"
            );
            sleep(Duration::from_millis(50));
        }
        ministack
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
