/** The measured settings of a deployment, without the TLS roots. */

import { type Configuration, names } from './configuration';

export interface MeasuredSettings {
  readonly partition: string;
  readonly account: string;
  readonly region: string;
  readonly signer_role: string;
  readonly generator_role: string;
  readonly retirement_role: string;
  readonly administrator_role: string;
  readonly table_arn: string;
  /** True, because keys are deployed in their open form. */
  readonly accept_open_policy: boolean;
}

export function measuredSettings(configuration: Configuration): MeasuredSettings {
  const { partition, account, region } = configuration;
  const name = names(configuration);
  return {
    partition,
    account,
    region,
    signer_role: name.signerRole,
    generator_role: name.generatorRole,
    retirement_role: name.retirementRole,
    administrator_role: name.administratorRole,
    table_arn: name.tableArn,
    accept_open_policy: true,
  };
}
