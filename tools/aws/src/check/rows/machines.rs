//! Machines and pods.

use crate::check::row::Check::{ByHand, Destructive, Run};
use crate::check::row::Outcome::{All, AtLeast, Is, Nothing, Succeeds};
use crate::check::row::Step::{
    Append, Beside, Each, Expect, Finished, Let, Machine, Machines, Until,
};
use crate::check::row::{Row, Step, Table};

/// Allocatable resources of the machine's node, read as the node itself, compared with the allocator's.
macro_rules! allocatable {
    ($before:literal) => {
        concat!(
            $before,
            "node=$(tr '\\0' '\\n' < /proc/$(pgrep -o -x kubelet)/cmdline | sed -n 's/^--hostname-override=//p'); \
             server=$(awk '$1 == \"server:\" {print $2}' /var/lib/kubelet/kubeconfig); \
             token=$(aws eks get-token --cluster-name $CLUSTER --region $REGION --query status.token --output text); \
             set -- $(printf 'header = \"Authorization: Bearer %s\"' \"$token\" | \
                 curl -fsS -m 20 --config - --cacert /etc/kubernetes/pki/ca.crt \"$server/api/v1/nodes/$node\" | \
                 jq -r '.status.allocatable | .[\"hugepages-2Mi\"], .[\"aws.ec2.nitro/nitro_enclaves\"], .[\"aws.ec2.nitro/nitro_enclaves_cpus\"]'); \
             memory=$(awk '$1 == \"memory_mib:\" {print $2}' /etc/nitro_enclaves/allocator.yaml); \
             cpus=$(awk '$1 == \"cpu_count:\" {print $2}' /etc/nitro_enclaves/allocator.yaml); \
             echo hugepages-2Mi $1 of ${memory}Mi, enclaves $2, processors $3 of $cpus; \
             test \"$1\" = \"${memory}Mi\" && test \"$2\" -ge 3 && test \"$3\" = \"$cpus\"",
        )
    };
}

/// The load balancer's groups of both services.
const TARGET_GROUPS: Step = Let(
    "TARGET_GROUPS",
    "aws cloudformation list-stack-resources --stack-name $CLUSTER \
     --query \"StackResourceSummaries[?ResourceType=='AWS::ElasticLoadBalancingV2::TargetGroup'].PhysicalResourceId\"",
);

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "room-for-enclaves",
        table: Table::Machines,
        claim: "machines of the node group reserve before their kubelet counts",
        expected: "every node has the allocator's `hugepages-2Mi` and `aws.ec2.nitro/nitro_enclaves_cpus`, and three `aws.ec2.nitro/nitro_enclaves`: with today's images 768Mi and 6",
        check: Run(&[Machines(allocatable!(""))]),
    },
    Row {
        id: "room-after-restart",
        table: Table::Machines,
        claim: "they do so after a restart",
        expected: "the same on a machine that was rebooted",
        check: Destructive {
            steps: &[
                Machine(0, "touch /run/before-restart; echo marked"),
                Expect("aws ec2 reboot-instances --instance-ids $MACHINE", Succeeds),
                Machine(
                    15,
                    allocatable!(
                        "test ! -e /run/before-restart || exit 1; systemctl is-active nitro-enclaves-allocator; "
                    ),
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "pods-healthy",
        table: Table::Machines,
        claim: "pods start an enclave, and the load balancer finds them",
        expected: "every target of both services is `healthy`",
        check: Run(&[
            TARGET_GROUPS,
            Each(
                "TARGET_GROUP",
                "$TARGET_GROUPS",
                &[Expect(
                    "aws elbv2 describe-target-health --target-group-arn $TARGET_GROUP \
                 --query \"TargetHealthDescriptions[?TargetHealth.State!='draining'].TargetHealth.State\"",
                    All("healthy"),
                )],
            ),
        ]),
    },
    Row {
        id: "pods-confined",
        table: Table::Machines,
        claim: "pods run as user 10001 under their seccomp profile, without capabilities",
        expected: "every process of that user has no capabilities, `NoNewPrivs` 1 and `Seccomp` 2",
        check: Run(&[Machines(
            "for process in $(pgrep -u 10001); do \
                 awk '/^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):/ {sub(/^0+/, \"0\", $2); printf \"%s%s \", $1, $2} END {print \"\"}' /proc/$process/status; \
             done | sort | uniq -c | tee $found; \
             ! grep -vq 'CapEff:0 CapBnd:0 CapAmb:0 NoNewPrivs:1 Seccomp:2' $found",
        )]),
    },
    Row {
        id: "runtime-default",
        table: Table::Machines,
        claim: "RuntimeDefault is not enough",
        expected: "`/readyz` stays 503",
        check: ByHand("`seccompProfile: {type: RuntimeDefault}` in one Deployment"),
    },
    Row {
        id: "network-policy",
        table: Table::Machines,
        claim: "network policies are enforced: hosts of the network that are not the load balancer do not reach pods",
        expected: "from every machine a connection to port 8443 of a pod on another machine times out",
        check: Run(&[
            TARGET_GROUPS,
            Each(
                "TARGET_GROUP",
                "$TARGET_GROUPS",
                &[Append(
                    "TARGETS",
                    "aws elbv2 describe-target-health --target-group-arn $TARGET_GROUP \
                 --query \"TargetHealthDescriptions[?TargetHealth.State=='healthy'].Target.Id\"",
                )],
            ),
            Machines(
                "for address in $TARGETS; do \
                     if addresses | grep -qx $address; then continue; fi; \
                     curl -skS -m 5 -o /dev/null https://$address:8443/ 2> /dev/null; echo curl $?; \
                 done | sort | uniq -c | tee $found; \
                 ! grep -vq 'curl 28$' $found",
            ),
        ]),
    },
    Row {
        id: "requests-from-within",
        table: Table::Machines,
        claim: "pods refuse requests that the front door did not sign, also from inside of the network",
        expected: "401 to a machine that calls its own pod, which the network policy cannot forbid",
        check: Run(&[Machines(
            "for address in $(addresses); do \
                 for path in health generate_key; do \
                     curl -skS -m 10 -o /dev/null -w '%{http_code}\\n' https://$address:8443/v1/$path; \
                 done; \
             done | sort | uniq -c | tee $found; \
             ! grep -vq ' 401$' $found",
        )]),
    },
    Row {
        id: "pod-logs",
        table: Table::Machines,
        claim: "lines of pods arrive unchanged, and metrics of machines and enclaves, although no pod reaches the machine's credentials",
        expected: "the event `request_answered` in the log; metrics `ContainerInsights` and `NitroEnclave`. If not, the CloudWatch agent wants a hop limit of 2 in `cdk/lib/cluster.ts`",
        check: Run(&[
            Expect(
                "aws logs filter-log-events --log-group-name /aws/containerinsights/$CLUSTER/application \
                 --filter-pattern '{ $.event = \"request_answered\" }' --max-items 1 --query 'length(events)'",
                AtLeast(1),
            ),
            Expect(
                "aws cloudwatch list-metrics --namespace NitroEnclave --recently-active PT3H \
                 --dimensions Name=Deployment,Value=${P}signer --query 'length(Metrics)'",
                AtLeast(1),
            ),
            Expect(
                "aws cloudwatch list-metrics --namespace ContainerInsights --recently-active PT3H \
                 --dimensions Name=ClusterName,Value=$CLUSTER --max-items 50 --query 'length(Metrics)'",
                AtLeast(1),
            ),
        ]),
    },
    Row {
        id: "patch-level",
        table: Table::Machines,
        claim: "machines and add-ons are up to date",
        expected: "the node group has the newest release of its image and no health issue; every add-on is `ACTIVE` without an issue",
        check: Run(&[
            Let(
                "VERSION",
                "aws eks describe-cluster --name $CLUSTER --query cluster.version",
            ),
            Let(
                "NODE_GROUPS",
                "aws eks list-nodegroups --cluster-name $CLUSTER --query nodegroups",
            ),
            Each(
                "NODE_GROUP",
                "$NODE_GROUPS",
                &[
                    Let(
                        "IMAGE",
                        "aws eks describe-nodegroup --cluster-name $CLUSTER --nodegroup-name $NODE_GROUP \
                     --query \"contains(nodegroup.amiType, 'ARM') && 'arm64' || 'x86_64'\"",
                    ),
                    Let(
                        "NEWEST",
                        "aws ssm get-parameter \
                     --name /aws/service/eks/optimized-ami/$VERSION/amazon-linux-2023/$IMAGE/standard/recommended/release_version \
                     --query Parameter.Value",
                    ),
                    Expect(
                        "aws eks describe-nodegroup --cluster-name $CLUSTER --nodegroup-name $NODE_GROUP --query nodegroup.releaseVersion",
                        Is("$NEWEST"),
                    ),
                    Expect(
                        "aws eks describe-nodegroup --cluster-name $CLUSTER --nodegroup-name $NODE_GROUP --query nodegroup.health.issues",
                        Nothing,
                    ),
                ],
            ),
            Let(
                "ADDONS",
                "aws eks list-addons --cluster-name $CLUSTER --query addons",
            ),
            Each(
                "ADDON",
                "$ADDONS",
                &[
                    Expect(
                        "aws eks describe-addon --cluster-name $CLUSTER --addon-name $ADDON --query addon.status",
                        Is("ACTIVE"),
                    ),
                    Expect(
                        "aws eks describe-addon --cluster-name $CLUSTER --addon-name $ADDON --query addon.health.issues",
                        Nothing,
                    ),
                ],
            ),
        ]),
    },
    Row {
        id: "drained-machine",
        table: Table::Machines,
        claim: "a drained machine ends its pods without an error",
        expected: "no failed request while a machine is drained and replaced; afterwards every target is `healthy`",
        check: Destructive {
            steps: &[
                TARGET_GROUPS,
                Beside("cargo xtask newman 2 3000"),
                Expect(
                    "aws autoscaling terminate-instance-in-auto-scaling-group --instance-id $MACHINE \
                     --no-should-decrement-desired-capacity --query Activity.StatusCode",
                    Succeeds,
                ),
                Finished,
                Each(
                    "TARGET_GROUP",
                    "$TARGET_GROUPS",
                    &[Until(
                        15,
                        "aws elbv2 describe-target-health --target-group-arn $TARGET_GROUP \
                     --query \"TargetHealthDescriptions[?TargetHealth.State!='draining'].TargetHealth.State\"",
                        All("healthy"),
                    )],
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "three-enclaves",
        table: Table::Machines,
        claim: "three enclaves of one machine at the same time",
        expected: "a third pod on a machine becomes ready; retries for port 9000 in its log at most",
        check: ByHand("`kubectl -n cloister rollout restart deployment`"),
    },
    Row {
        id: "second-peer",
        table: Table::Machines,
        claim: "another process of the machine cannot configure a pod's enclave, or offer it a way to AWS",
        expected: "the enclave refuses it, and the pod serves on",
        check: ByHand(
            "a second pod program with `CLOISTER_ENCLAVE=vsock:CID:5000` of a running enclave, on its machine",
        ),
    },
    Row {
        id: "operators",
        table: Table::Machines,
        claim: "operators may stop the pods, and nothing else",
        expected: "`yes` for scaling deployments and deleting pods and bindings in the namespace `cloister`; `no` for secrets, `exec`, and other namespaces",
        check: ByHand("as a principal of `CDK_OPERATORS`, `kubectl -n cloister auth can-i --list`"),
    },
    Row {
        id: "ecs-services",
        table: Table::Machines,
        claim: "the stack for ECS: agent, device, profile",
        expected: "both services run the tasks that they should",
        check: Run(&[
            Expect(
                "aws ecs describe-services --cluster $ECS_CLUSTER --services signer key-generator \
                 --query 'services[?runningCount==desiredCount].status'",
                All("ACTIVE"),
            ),
            Expect(
                "aws ecs describe-services --cluster $ECS_CLUSTER --services signer key-generator \
                 --query 'services[?runningCount!=desiredCount].serviceName'",
                Nothing,
            ),
        ]),
    },
];
