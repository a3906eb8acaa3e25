// Copies every change of the table into the journal: one object per change, under the key's id and the change's number, which
// grows with time. A change that is delivered twice is written twice, as two versions of one object.

const { PutObjectCommand, S3Client } = require('@aws-sdk/client-s3');

const { objects } = require('./objects');

const s3 = new S3Client({});

exports.handler = async ({ Records }) => {
  // In order, and the first failure ends the batch: Lambda delivers it again.
  for (const object of objects(Records)) {
    await s3.send(new PutObjectCommand({ Bucket: process.env.JOURNAL, ...object }));
  }
};
