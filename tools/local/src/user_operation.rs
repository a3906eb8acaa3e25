//! ERC-4337 on the chain of the stack: an EntryPoint with its SimpleAccount factory, and unsigned
//! operations of an account that a wallet key owns.

use alloy_primitives::{Address, B256, Bytes, U256, eip191_hash_message};
use alloy_sol_types::{SolCall as _, SolConstructor as _, SolEvent as _};
use anyhow::{Context as _, ensure};

use crate::chain::{Chain, Receipt};
use crate::contracts::{
    EntryPoint, PackedUserOperation, SimpleAccount, SimpleAccountFactory, creation_code,
};
use crate::packages::Packages;

/// A release of the EntryPoint contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 0.7: SimpleAccount recovers its owner from the EIP-191 form of the hash.
    V0_7,
    /// 0.8: SimpleAccount recovers its owner from the hash itself, which is an EIP-712 one.
    V0_8,
}

impl Release {
    /// Its number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_7 => "0.7",
            Self::V0_8 => "0.8",
        }
    }

    /// The 32 bytes that the owner of a SimpleAccount of this release signs, without any further
    /// prefix.
    pub fn to_be_signed(self, user_op_hash: B256) -> B256 {
        match self {
            Self::V0_7 => eip191_hash_message(user_op_hash),
            Self::V0_8 => user_op_hash,
        }
    }
}

/// An EntryPoint and its account factory on the chain.
#[derive(Clone, Debug)]
pub struct Deployment {
    chain: Chain,
    developer: Address,
    release: Release,
    entry_point: Address,
    factory: Address,
}

/// An operation that is complete but for its signature.
#[derive(Clone, Debug)]
pub struct Unsigned {
    operation: PackedUserOperation,
    /// The EntryPoint's hash of it.
    pub user_op_hash: B256,
    /// The bytes that the owner signs.
    pub to_be_signed: B256,
    /// The account that acts.
    pub account: Address,
}

impl Deployment {
    /// Deploys both contracts from their npm artifacts, paid by the node's own account.
    ///
    /// # Errors
    /// If the chain refuses.
    pub async fn new(chain: &Chain, packages: &Packages, release: Release) -> anyhow::Result<Self> {
        let developer = chain.developer().await?;
        let artifact = |name: &str| {
            creation_code(&packages.file(&format!(
                "account-abstraction-{}/artifacts/{name}.json",
                release.as_str()
            )))
        };
        let entry_point = create(chain, developer, &artifact("EntryPoint")?).await?;
        let arguments = SimpleAccountFactory::constructorCall {
            entryPoint: entry_point,
        }
        .abi_encode();
        let factory = [artifact("SimpleAccountFactory")?.as_ref(), &arguments].concat();
        let factory = create(chain, developer, &factory).await?;
        Ok(Self {
            chain: chain.clone(),
            developer,
            release,
            entry_point,
            factory,
        })
    }

    /// The first operation of a new account of `owner`: it creates the account and sends `wei` from
    /// it to `recipient`. The account is funded with one ether beforehand, for that and for its
    /// gas.
    ///
    /// # Errors
    /// If the chain refuses.
    pub async fn first_operation(
        &self,
        owner: Address,
        recipient: Address,
        wei: U256,
    ) -> anyhow::Result<Unsigned> {
        let salt = U256::ZERO;
        let call = SimpleAccountFactory::getAddressCall { owner, salt };
        let account = SimpleAccountFactory::getAddressCall::abi_decode_returns(
            &self.chain.read(self.factory, &call.abi_encode()).await?,
        )
        .context("getAddress answers something else")?;
        self.chain
            .fund(account, U256::from(10).pow(U256::from(18)))
            .await?;

        let create = SimpleAccountFactory::createAccountCall { owner, salt }.abi_encode();
        let operation = PackedUserOperation {
            sender: account,
            nonce: U256::ZERO,
            initCode: [self.factory.as_slice(), &create].concat().into(),
            callData: SimpleAccount::executeCall {
                target: recipient,
                value: wei,
                data: Bytes::new(),
            }
            .abi_encode()
            .into(),
            accountGasLimits: two_halves(VERIFICATION_GAS, CALL_GAS),
            preVerificationGas: U256::from(PRE_VERIFICATION_GAS),
            gasFees: two_halves(PRIORITY_FEE, MAX_FEE),
            paymasterAndData: Bytes::new(),
            signature: Bytes::new(),
        };
        let call = EntryPoint::getUserOpHashCall {
            userOp: operation.clone(),
        };
        let user_op_hash = self
            .chain
            .read(self.entry_point, &call.abi_encode())
            .await?;
        let user_op_hash = EntryPoint::getUserOpHashCall::abi_decode_returns(&user_op_hash)
            .context("getUserOpHash answers something else")?;
        Ok(Unsigned {
            operation,
            user_op_hash,
            to_be_signed: self.release.to_be_signed(user_op_hash),
            account,
        })
    }

    /// Hands the signed operation to the EntryPoint's `handleOps`, and checks that it was carried
    /// out.
    ///
    /// # Errors
    /// If the EntryPoint refuses the operation (`AA24`: a signature by another key), or the operation
    /// fails.
    pub async fn handle(&self, unsigned: Unsigned, signature: Bytes) -> anyhow::Result<Receipt> {
        let ops = vec![PackedUserOperation {
            signature,
            ..unsigned.operation
        }];
        let call = EntryPoint::handleOpsCall {
            ops,
            beneficiary: self.developer,
        }
        .abi_encode();
        let receipt = self
            .chain
            .send(self.developer, Some(self.entry_point), &call)
            .await?;
        let event = receipt
            .logs
            .iter()
            .filter(|log| log.address == self.entry_point)
            .find_map(|log| {
                EntryPoint::UserOperationEvent::decode_raw_log(
                    log.topics.iter().copied(),
                    &log.data,
                )
                .ok()
            })
            .context("the EntryPoint reports no operation")?;
        ensure!(
            event.userOpHash == unsigned.user_op_hash,
            "the EntryPoint carried out another operation"
        );
        ensure!(
            event.success,
            "the operation was accepted, but its call failed"
        );
        Ok(receipt)
    }

    /// The owner that the account's contract names.
    ///
    /// # Errors
    /// If the account does not exist.
    pub async fn owner(&self, account: Address) -> anyhow::Result<Address> {
        let owner = self
            .chain
            .read(account, &SimpleAccount::ownerCall {}.abi_encode())
            .await?;
        SimpleAccount::ownerCall::abi_decode_returns(&owner).context("the account was not created")
    }
}

async fn create(chain: &Chain, developer: Address, code: &[u8]) -> anyhow::Result<Address> {
    chain
        .send(developer, None, code)
        .await?
        .contract_address
        .context("no contract was created")
}

/// Two 128-bit numbers in one word, the way 0.7 packs them.
fn two_halves(high: u128, low: u128) -> B256 {
    B256::from((U256::from(high) << 128) | U256::from(low))
}

const VERIFICATION_GAS: u128 = 1_000_000;
const CALL_GAS: u128 = 100_000;
const PRE_VERIFICATION_GAS: u128 = 100_000;
/// In wei per gas; the chain's own base fee starts at 1 gwei.
const PRIORITY_FEE: u128 = 1_000_000_000;
const MAX_FEE: u128 = 20_000_000_000;
