//! Enclaves on Nitro hardware.

use crate::check::row::Check::{ByHand, Destructive, Run};
use crate::check::row::Outcome::{AtLeast, Is, Succeeds};
use crate::check::row::Step::{Each, Expect, LetMachines, Machine, Machines};
use crate::check::row::{Row, Table::Enclaves};

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "enclaves-run",
        table: Enclaves,
        claim: "our kernel boots, the heartbeat is answered, and the pods' `nitro-cli` is AWS's",
        expected: "every enclave is `RUNNING`, without the flag for debugging",
        check: Run(&[Machines(
            "for pod in $(pods); do \
                 nerdctl exec $pod nitro-cli --version; \
                 nerdctl exec $pod nitro-cli describe-enclaves | jq -r '.[] | .State + \" \" + .Flags'; \
             done | sort | uniq -c | tee $found; \
             test ! -s $found || { grep -q 'RUNNING NONE' $found && ! grep -Evq 'RUNNING NONE|Nitro CLI' $found; }",
        )]),
    },
    Row {
        id: "enclave-log",
        table: Enclaves,
        claim: "init's log comes out of the enclave, and the NSM is called `i-…-enc…`, so no command line can change the parent's id",
        expected: "the events `application_started` and `parent_answered` in the pods' log; its `module_id` has that form",
        check: Run(&[
            Expect(
                "aws logs filter-log-events --log-group-name /aws/containerinsights/$CLUSTER/application \
                 --filter-pattern '{ $.event = \"application_started\" }' --max-items 1 --query 'length(events)'",
                AtLeast(1),
            ),
            Expect(
                "aws logs filter-log-events --log-group-name /aws/containerinsights/$CLUSTER/application \
                 --filter-pattern '{ $.event = \"parent_answered\" }' --max-items 1 \
                 --query \"length(events[?contains(message, '\\\"i-') && contains(message, '-enc')])\"",
                AtLeast(1),
            ),
        ]),
    },
    Row {
        id: "enclaves-ready",
        table: Enclaves,
        claim: "KMS takes the attestation documents and compares PCR0",
        expected: "`/readyz` of every pod is 200: KMS opened the canary row for its enclave",
        check: Run(&[Machines(
            "for address in $(addresses); do \
                 curl -sS -m 10 -o /dev/null -w '%{http_code}\\n' http://$address:8080/readyz; \
             done | sort | uniq -c | tee $found; \
             ! grep -vq ' 200$' $found",
        )]),
    },
    Row {
        id: "attestation",
        table: Enclaves,
        claim: "attestation documents are complete and verify under AWS's root; PCR0–2 are those of `measurements.json`, PCR16 is the boot key",
        expected: "`cloister attestation verify` accepts a fresh proof of an enclave of each service",
        check: Run(&[Each(
            "SERVICE",
            "signer key-generator",
            &[
                LetMachines(
                    "PROOF",
                    "for pod in $(nerdctl ps --format '{{.ID}} {{.Names}}' | awk '$2 ~ \"^k8s://cloister/$SERVICE-.*/pod$\" {print $1; exit}'); do \
                     curl -fsS -m 20 http://$(address $pod):8080/attestation/$NONCE; \
                 done",
                ),
                Expect(
                    "cloister attestation verify - --nonce $NONCE --service $SERVICE --measurements $MEASUREMENTS <<< \"$PROOF\"",
                    Succeeds,
                ),
            ],
        )]),
    },
    Row {
        id: "parent-clock",
        table: Enclaves,
        claim: "the clock is the NSM's",
        expected: "with the machine's clock an hour ahead for 90 seconds its pods stay ready, and no enclave steps its clock",
        check: Destructive {
            steps: &[
                Machine(
                    0,
                    "systemctl stop chronyd; trap 'date -s \"-1 hour\" > /dev/null; systemctl start chronyd' EXIT; \
                     date -s '+1 hour' > /dev/null; sleep 90; \
                     for address in $(addresses); do \
                         curl -sS -m 10 -o /dev/null -w '%{http_code}\\n' http://$address:8080/readyz; \
                     done | sort | uniq -c | tee $found; \
                     grep -q ' 200$' $found && ! grep -vq ' 200$' $found",
                ),
                Expect(
                    "aws logs filter-log-events --log-group-name /aws/containerinsights/$CLUSTER/application \
                     --start-time $STARTED_MS --filter-pattern '{ $.event = \"clock_stepped\" }' --query 'length(events)'",
                    Is("0"),
                ),
            ],
            restore: &[Machine(0, "systemctl start chronyd && chronyc -a makestep")],
        },
    },
    Row {
        id: "enclave-restarted",
        table: Enclaves,
        claim: "a pod restarts its enclave with the real `nitro-cli`",
        expected: "after the enclaves of a machine were terminated, its pods are ready again within minutes",
        check: Destructive {
            steps: &[
                Machine(
                    0,
                    "for pod in $(pods); do nerdctl exec $pod nitro-cli terminate-enclave --all | jq -r .Terminated; done",
                ),
                Machine(
                    5,
                    "for pod in $(pods); do nerdctl exec $pod nitro-cli describe-enclaves | jq -r '.[].State'; done | tee $found; \
                     for address in $(addresses); do curl -fsS -m 10 -o /dev/null http://$address:8080/readyz || exit 1; done; \
                     grep -q RUNNING $found",
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "command-line",
        table: Enclaves,
        claim: "the hypervisor passes the kernel's command line on unchanged",
        expected: "the kernel prints the measured line; whatever the hypervisor adds is on init's list",
        check: ByHand(
            "an instance, `--profile debug` images, `--debug-mode` and `nitro-cli console --enclave-name signer`",
        ),
    },
    Row {
        id: "parent-id",
        table: Enclaves,
        claim: "a command line that changes the parent's id is refused",
        expected: "the enclave ends; its log ends with `enclave_ended`, reason `boot_failed`",
        check: ByHand(
            "an instance, images built with `--cmdline` and `cloister.parent_cid=2` added",
        ),
    },
    Row {
        id: "guest-randomness",
        table: Enclaves,
        claim: "randomness comes from the NSM",
        expected: "`kernel: randomness comes from the NSM`, `nsm: random` held",
        check: ByHand("an instance; the guest self-test, below"),
    },
    Row {
        id: "guest-registers",
        table: Enclaves,
        claim: "PCR16 is the boot key, all registers are locked",
        expected: "`boot key: PCR16 vouches for it`, `nsm: every register is locked` held",
        check: ByHand("an instance; the guest self-test"),
    },
    Row {
        id: "guest-clock",
        table: Enclaves,
        claim: "the clock is the NSM's from the boot on",
        expected: "`kernel: the clock is the NSM's` held",
        check: ByHand(
            "an instance whose clock is an hour ahead (`sudo date -s '+1 hour'`); the guest self-test",
        ),
    },
    Row {
        id: "guest-reboot",
        table: Enclaves,
        claim: "an enclave that reboots ends (`reboot=k`)",
        expected: "`describe-enclaves` no longer lists it",
        check: ByHand("an instance; the guest self-test, told `a` on port 5000"),
    },
    Row {
        id: "other-image",
        table: Enclaves,
        claim: "KMS refuses another image",
        expected: "`/readyz` stays 503; CloudTrail has AccessDenied with the other digest",
        check: ByHand(
            "a pod with images of which one character of `table_arn` in the settings was changed, against the first CMK",
        ),
    },
    Row {
        id: "debug-image",
        table: Enclaves,
        claim: "KMS refuses a debug enclave",
        expected: "`/readyz` stays 503; `describe-enclaves` shows zeros",
        check: ByHand("a pod with `CLOISTER_ENCLAVE_DEBUG=true`"),
    },
    Row {
        id: "little-memory",
        table: Enclaves,
        claim: "128 MiB are enough",
        expected: "all answered, with 64 MiB some by `busy`; `memory_available_kib` in init's log",
        check: ByHand(
            "an instance; `--memory 128` and `--memory 64`; 100 requests at once through the pod",
        ),
    },
    Row {
        id: "signed-image",
        table: Enclaves,
        claim: "a signed image starts, an expired one does not; PCR8",
        expected: "PCR8 of `measurements.json`; the expired one is refused",
        check: ByHand(
            "an instance; `cargo xtask image --settings … --certificate … --key …`, `run-enclave`, `describe-enclaves`",
        ),
    },
    Row {
        id: "kernel-of-aws",
        table: Enclaves,
        claim: "the kernel AWS ships, with `nsm.ko`",
        expected: "everything above",
        check: ByHand(
            "`cargo xtask image --settings … --kernel /usr/share/nitro_enclaves/blobs/bzImage --module /usr/share/nitro_enclaves/blobs/nsm.ko`, deployed",
        ),
    },
    Row {
        id: "arm64",
        table: Enclaves,
        claim: "arm64 images boot",
        expected: "everything above",
        check: ByHand(
            "`cargo aws check` of a deployment with `CDK_TARGET_ARCHITECTURE=linux/arm64`",
        ),
    },
];
