// Calls of AWS, repeated while a permission that was just given may not count yet, or AWS asks for fewer calls:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency

/** About a minute. The function's timeout has room for it in each of the calls of a resource. */
const WAITS = [1, 2, 4, 8, 16, 32];

const PASSING = [
  'AccessDenied',
  'AccessDeniedException',
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'TooManyRequestsException',
  'UnauthorizedOperation',
];

exports.retrying = (aws, sleep) => async (service, command, input) => {
  for (const wait of WAITS) {
    try {
      return await aws(service, command, input);
    } catch (error) {
      if (!PASSING.includes(error.name)) {
        throw error;
      }
      await sleep(wait);
    }
  }
  return aws(service, command, input);
};
