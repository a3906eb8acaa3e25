// Calls KMS to open a real data key as a role with the signer's IAM permissions, without an enclave. KMS has to deny
// it; any other outcome is an error of this function, and an alarm.

const { DynamoDBClient, GetItemCommand } = require('@aws-sdk/client-dynamodb');
const { DecryptCommand, KMSClient } = require('@aws-sdk/client-kms');

const { decryption, verdict } = require('./canary');

const dynamodb = new DynamoDBClient({});
const kms = new KMSClient({});

exports.handler = async () => {
  const { TABLE, CANARY_ROW, CMK_ARN } = process.env;
  const { Item } = await dynamodb.send(new GetItemCommand({ TableName: TABLE, Key: { key_id: { S: CANARY_ROW } } }));
  const asked = decryption(Item, CMK_ARN);
  const outcome = await kms.send(new DecryptCommand(asked)).then(
    () => 'decrypted',
    (error) => error.name,
  );
  console.log(JSON.stringify({ message: 'called KMS without an enclave', outcome }));
  verdict(outcome);
};
