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
