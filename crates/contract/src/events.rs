//! Names of log events that metrics, alarms, tests or operators search for: the field `event`.
//!
//! The name is stable; the message next to it is prose and may change.

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// Every event name.
        pub const ALL: &[&str] = &[$($name),*];

        /// The listed event called `name`.
        pub fn find(name: &str) -> Option<&'static str> {
            ALL.iter().copied().find(|event| *event == name)
        }
    };
}

events! {
    // Front door, pods and enclaves
    /// A thread panicked; `place` is where.
    PANICKED = "panicked";
    /// The program cannot start or go on; `error` is the cause.
    PROGRAM_FAILED = "program_failed";
    /// A request was answered; `code` is `ok` or the code of the rejection.
    REQUEST_ANSWERED = "request_answered";

    // Front door
    /// The front door got no answer from a pod.
    POD_UNREACHABLE = "pod_unreachable";

    // Pods
    /// A pod serves.
    POD_STARTED = "pod_started";
    /// A pod stops accepting requests and answers those in flight.
    POD_DRAINING = "pod_draining";
    /// A pod has ended.
    POD_ENDED = "pod_ended";
    /// The certificate that signed the enclave's image has expired or ends within 30 days.
    SIGNING_CERTIFICATE_ENDS = "signing_certificate_ends";
    /// The pod terminates an enclave that an earlier pod left running.
    STALE_ENCLAVE = "stale_enclave";
    /// The pod's enclave has booted.
    ENCLAVE_BOOTED = "enclave_booted";
    /// The pod's enclave does not run and will be started again; `problem` is the cause.
    ENCLAVE_DOWN = "enclave_down";
    /// The pod's enclave was terminated at the pod's end.
    ENCLAVE_TERMINATED = "enclave_terminated";
    /// The pod failed to terminate its enclave, which may still run.
    ENCLAVE_NOT_TERMINATED = "enclave_not_terminated";
    /// The enclave is ready.
    ENCLAVE_READY = "enclave_ready";
    /// The enclave runs and is not ready; `problem` is the cause.
    ENCLAVE_NOT_READY = "enclave_not_ready";
    /// The enclave accepted credentials and the ARN of its CMK.
    ENCLAVE_CONFIGURED = "enclave_configured";
    /// The pod serves a renewed TLS certificate.
    CERTIFICATE_RENEWED = "certificate_renewed";
    /// A renewed TLS certificate is unusable; the pod still serves the previous one.
    CERTIFICATE_UNUSABLE = "certificate_unusable";
    /// A request did not have a valid MAC of the front door; `reason` is the cause, `peer` its sender.
    NOT_FROM_FRONT_DOOR = "not_from_front_door";
    /// The pod accepts other keys of the front door than before.
    FRONT_DOOR_KEYS_READ = "front_door_keys_read";
    /// The front door's keys were not read; the pod accepts those that it had before.
    FRONT_DOOR_KEYS_NOT_READ = "front_door_keys_not_read";
    /// KMS denied the pod a data key without an enclave, as it has to.
    KEY_DENIED = "key_denied";
    /// KMS would have given a data key to a caller without an enclave.
    KEY_RELEASED = "key_released";
    /// KMS did not decide on the pod's call without an enclave; `failure` or `error` is the cause.
    KEY_NOT_PROBED = "key_not_probed";
    /// The enclave asked for a destination that its pod does not allow.
    EGRESS_REFUSED = "egress_refused";
    /// The pod failed to connect to a destination of the enclave.
    EGRESS_UNREACHABLE = "egress_unreachable";

    // Enclaves: applications
    /// The first connection of the boot bound the enclave to its session.
    ENCLAVE_BOUND = "enclave_bound";
    /// The enclave closed connections that do not belong to the session of its pod, `connections`
    /// since the line before; or, from a pod, another process bound the enclave first.
    SESSION_MISMATCH = "session_mismatch";
    /// The enclave did not adopt the CMK.
    CMK_NOT_ADOPTED = "cmk_not_adopted";
    /// The enclave adopted the CMK.
    CMK_ADOPTED = "cmk_adopted";
    /// The NSM did not attest the boot key.
    BOOT_KEY_NOT_ATTESTED = "boot_key_not_attested";
    /// The canary row could not be written yet.
    CANARY_NOT_WRITTEN = "canary_not_written";
    /// An unreadable row in the place of the canary is replaced.
    CANARY_REPLACED = "canary_replaced";
    /// A sealed row was not opened.
    ROW_NOT_OPENED = "row_not_opened";
    /// A sealed row was not written.
    ROW_NOT_WRITTEN = "row_not_written";
    /// TLS with an AWS service failed because no measured root certificate issued its chain.
    AWS_TLS_UNKNOWN_ISSUER = "aws_tls_unknown_issuer";
    /// TLS with an AWS service failed for another reason.
    AWS_TLS_FAILED = "aws_tls_failed";
    /// A call of KMS failed.
    KMS_CALL_FAILED = "kms_call_failed";
    /// A reply of KMS was refused.
    KMS_REPLY_REFUSED = "kms_reply_refused";
    /// The attestation document for KMS was not made or renewed.
    KMS_NOT_ATTESTED = "kms_not_attested";
    /// A call of DynamoDB failed, in a pod or an enclave.
    DYNAMODB_CALL_FAILED = "dynamodb_call_failed";

    // Enclaves: init (see `enclave_log::InitEvent`)
    /// The parent answered the heartbeat.
    PARENT_ANSWERED = "parent_answered";
    /// The clock was set at boot.
    CLOCK_SET = "clock_set";
    /// The clock was off by so much that it was set instead of slewed.
    CLOCK_STEPPED = "clock_stepped";
    /// The clock was not compared with the NSM's.
    CLOCK_UNCHECKED = "clock_unchecked";
    /// The volume was mounted.
    VOLUME_MOUNTED = "volume_mounted";
    /// The application was started.
    APPLICATION_STARTED = "application_started";
    /// CPU and memory usage of the enclave.
    USAGE = "usage";
    /// Older lines were dropped from the log.
    LINES_MISSING = "lines_missing";
    /// The enclave ends; `reason` is the cause.
    ENCLAVE_ENDED = "enclave_ended";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_in_snake_case() {
        assert_eq!(ALL.iter().collect::<BTreeSet<_>>().len(), ALL.len());
        for name in ALL {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert_eq!(find(name), Some(*name));
        }
        assert_eq!(find("other"), None);
    }
}
