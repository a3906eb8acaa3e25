//! The self-test from within: an image whose application checks NSM, clock, sandbox and vsock, and
//! reports on the log port.

use cloister_contract::ports;
use cloister_e2e::guest::{Guest, assemble};
use cloister_local::emulator::Tools;
use tokio::io::AsyncWriteExt as _;

use crate::TURN;

#[tokio::test(flavor = "multi_thread")]
async fn every_check_holds_and_every_end_has_its_reason() {
    let _turn = TURN.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let tools = Tools::find().unwrap();
    let image = directory.path().join("guest.eif");
    let measured = assemble(&tools, &tools.guest_release, &image);
    let mut guest = Guest::new(tools, image, directory.path());

    for (byte, reason, member, value) in [
        (b'e', "application_exited", "status", 3),
        (b'a', "application_killed", "signal", 6),
        (b's', "application_sandbox", "", 0),
    ] {
        let mut log = guest.boot().await;
        let checks = log.checks().await;
        assert!(checks.len() >= 28, "only {} checks", checks.len());
        // The builder's measurements, `cloister-eif`'s, and those of the guest's NSM.
        for (name, pcr) in [
            ("pcr0", measured.pcr0),
            ("pcr1", measured.pcr1),
            ("pcr2", measured.pcr2),
        ] {
            let found = checks.iter().find(|check| check["name"] == name).unwrap();
            assert_eq!(
                found["detail"].as_str(),
                Some(&*const_hex::encode(pcr)),
                "{name}"
            );
        }

        let mut order = guest.connect(ports::REQUESTS).await;
        order.write_u8(byte).await.unwrap();
        order.flush().await.unwrap();
        let end = log.end().await;
        assert_eq!(end["reason"], reason, "{end}");
        assert!(member.is_empty() || end[member] == value, "{end}");
        guest.ended().await;
    }
}
