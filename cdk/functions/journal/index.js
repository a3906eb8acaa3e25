// Copies every change of the table into the journal: one object per change, named by the key's id and the change's
// sequence number. A change that is delivered twice becomes two versions of one object.

exports.handler = async ({ Records }) => {
  // The runtime's own, absent elsewhere.
  const { PutObjectCommand, S3Client } = require('@aws-sdk/client-s3');
  const s3 = new S3Client({});
  // In order. The first failure ends the batch, and Lambda delivers it again.
  for (const object of exports.objects(Records)) {
    await s3.send(new PutObjectCommand({ Bucket: process.env.JOURNAL, ...object }));
  }
};

// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html
exports.objects = (records) =>
  records.map(({ eventName, dynamodb }) => ({
    Key: `${dynamodb.Keys.key_id.S}/${dynamodb.SequenceNumber.padStart(40, '0')}.json`,
    ContentType: 'application/json',
    Body: JSON.stringify({
      change: eventName,
      at: new Date(dynamodb.ApproximateCreationDateTime * 1000).toISOString(),
      before: dynamodb.OldImage,
      after: dynamodb.NewImage,
    }),
  }));
