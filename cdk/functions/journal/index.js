// Copies every change of the table into the journal: one object per change, named by the key's id and the change's
// sequence number. A change that is delivered twice becomes two versions of one object.

const { PutObjectCommand, S3Client } = require('@aws-sdk/client-s3');

const { objects } = require('./objects');

const s3 = new S3Client({});

exports.handler = async ({ Records }) => {
  // In order. The first failure ends the batch, and Lambda delivers it again.
  for (const object of objects(Records)) {
    await s3.send(new PutObjectCommand({ Bucket: process.env.JOURNAL, ...object }));
  }
};
