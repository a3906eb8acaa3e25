//! The contracts of the demonstration: their interfaces, and their compiled code from npm.

// The macro writes an interface's types without documentation.
#![allow(missing_docs)]

use std::path::Path;

use alloy_primitives::Bytes;
use alloy_sol_types::sol;
use anyhow::Context as _;
use serde::Deserialize;

sol! {
    /// ERC-20: <https://eips.ethereum.org/EIPS/eip-20>.
    #[derive(Debug)]
    interface Erc20 {
        constructor(string name, string symbol, uint256 initialSupply, address owner);
        function balanceOf(address account) external view returns (uint256);
        function transfer(address to, uint256 amount) external returns (bool);
    }

    /// ERC-4337's packed user operation, EntryPoint 0.7 and later.
    #[derive(Debug)]
    struct PackedUserOperation {
        address sender;
        uint256 nonce;
        bytes initCode;
        bytes callData;
        bytes32 accountGasLimits;
        uint256 preVerificationGas;
        bytes32 gasFees;
        bytes paymasterAndData;
        bytes signature;
    }

    /// ERC-4337's EntryPoint, as far as it is used here: <https://eips.ethereum.org/EIPS/eip-4337>.
    #[derive(Debug)]
    interface EntryPoint {
        event UserOperationEvent(
            bytes32 indexed userOpHash,
            address indexed sender,
            address indexed paymaster,
            uint256 nonce,
            bool success,
            uint256 actualGasCost,
            uint256 actualGasUsed
        );
        function getUserOpHash(PackedUserOperation userOp) external view returns (bytes32);
        function getNonce(address sender, uint192 key) external view returns (uint256);
        function handleOps(PackedUserOperation[] ops, address beneficiary) external;
    }

    /// The factory of the sample account that comes with the EntryPoint.
    #[derive(Debug)]
    interface SimpleAccountFactory {
        constructor(address entryPoint);
        function createAccount(address owner, uint256 salt) external returns (address);
        function getAddress(address owner, uint256 salt) external view returns (address);
    }

    /// The sample account itself.
    #[derive(Debug)]
    interface SimpleAccount {
        function execute(address target, uint256 value, bytes data) external;
        function owner() external view returns (address);
    }
}

/// The creation code out of a compiled contract's artifact.
///
/// # Errors
/// If the artifact cannot be read or holds no code.
pub fn creation_code(artifact: &Path) -> anyhow::Result<Bytes> {
    #[derive(Deserialize)]
    struct Artifact {
        bytecode: Bytes,
    }
    let text = std::fs::read(artifact)
        .with_context(|| format!("failed to read {}", artifact.display()))?;
    let artifact: Artifact = serde_json::from_slice(&text)
        .with_context(|| format!("{} holds no code", artifact.display()))?;
    Ok(artifact.bytecode)
}
