//! Brings up the loopback interface, the only network device of an enclave.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// Brings the loopback interface up; the kernel then assigns it 127.0.0.1.
///
/// # Errors
/// The kernel's.
pub(crate) fn up() -> io::Result<()> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sendto(
        &socket,
        &request(),
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0; 128];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    acknowledged(&answer[..len])
}

/// A message of rtnetlink(7): `struct nlmsghdr`, `struct ifinfomsg`.
fn request() -> Vec<u8> {
    [
        &32_u32.to_ne_bytes()[..],                  // nlmsg_len
        &RTM_NEWLINK.to_ne_bytes(),                 // nlmsg_type
        &(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes(), // nlmsg_flags
        &[0; 8],                                    // nlmsg_seq, nlmsg_pid
        &[0; 4],                                    // ifi_family (AF_UNSPEC), padding, ifi_type
        &LOOPBACK_INDEX.to_ne_bytes(),              // ifi_index
        &IFF_UP.to_ne_bytes(),                      // ifi_flags
        &IFF_UP.to_ne_bytes(),                      // ifi_change
    ]
    .concat()
}

/// `struct nlmsgerr`: an error of 0 is an acknowledgement.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer
        .get(4..6)
        .and_then(|kind| kind.try_into().ok())
        .map(u16::from_ne_bytes);
    let error = answer
        .get(16..20)
        .and_then(|error| error.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => {
            Err(io::Error::from_raw_os_error(error.saturating_neg()))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer is not an acknowledgement",
        )),
    }
}

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if.h>
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;
/// The kernel makes it first, in every network namespace.
const LOOPBACK_INDEX: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request();
        assert_eq!(request.len(), 32);
        assert_eq!(request[..4], 32_u32.to_ne_bytes());
    }

    #[test]
    fn the_kernel_acknowledges_or_says_why_not() {
        let answer = |kind: u16, error: i32| {
            [
                &[0; 4][..],
                &kind.to_ne_bytes(),
                &[0; 10],
                &error.to_ne_bytes(),
                &request()[..16],
            ]
            .concat()
        };
        acknowledged(&answer(NLMSG_ERROR, 0)).unwrap();
        assert_eq!(
            acknowledged(&answer(NLMSG_ERROR, -1))
                .unwrap_err()
                .raw_os_error(),
            Some(1)
        );
        assert_eq!(
            acknowledged(&answer(RTM_NEWLINK, 0)).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            acknowledged(&[]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
