//! An NFS server in user space.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use cloister_e2e::eventually;
use cloister_local::child::{Program, Running};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// NFS-Ganesha, on loopback, version 4.2 only, which needs no port mapper.
pub(crate) struct Server {
    _process: Running,
    directory: TempDir,
    port: u16,
}

impl Server {
    pub(crate) async fn start(logs: &Path) -> Self {
        // On the disk: not every file system in memory has lasting handles.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let [export, recovery] = ["export", "recovery"].map(|name| directory.path().join(name));
        fs::create_dir(&export).unwrap();
        fs::create_dir(&recovery).unwrap();
        chown(&export, Some(USER), Some(USER)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let file = directory.path().join("ganesha.conf");
        let settings = CONFIGURATION
            .replace("@port@", &port.to_string())
            .replace("@user@", &USER.to_string());
        let settings = settings.replace("@export@", &export.display().to_string());
        fs::write(
            &file,
            settings.replace("@recovery@", &recovery.display().to_string()),
        )
        .unwrap();

        let program = Program::new("ganesha", "/usr/bin/ganesha.nfsd")
            .argument("-F")
            .argument("-f")
            .argument(file);
        let program = program
            .argument("-L")
            .argument(directory.path().join("log"));
        let mut process = program
            .argument("-p")
            .argument(directory.path().join("pid"))
            .start(logs)
            .unwrap();
        eventually("the NFS server listening", async || {
            assert!(
                process.ended().is_none(),
                "{:#}",
                process.failure("it ended")
            );
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self {
            _process: process,
            directory,
            port,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The exported directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().join("export")
    }
}

/// The owner of everything the enclave writes, whatever user it claims.
pub(crate) const USER: u32 = 1000;
/// Numbers instead of names for users: an enclave has no names.
const CONFIGURATION: &str = r#"
NFS_Core_Param {
    Protocols = 4; NFS_Port = @port@; Bind_addr = 127.0.0.1; mount_path_pseudo = true;
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
}
NFS_KRB5 { Active_krb5 = false; }
NFSv4 {
    Minor_Versions = 2; Only_Numeric_Owners = true; Allow_Numeric_Owners = true;
    Graceless = true; Lease_Lifetime = 10; RecoveryBackend = fs; RecoveryRoot = "@recovery@";
}
EXPORT {
    Export_Id = 1; Path = "@export@"; Pseudo = "/volume"; Protocols = 4; Transports = TCP; SecType = sys;
    Access_Type = RW; Squash = All; Anonymous_Uid = @user@; Anonymous_Gid = @user@;
    FSAL { Name = VFS; }
}
"#;
