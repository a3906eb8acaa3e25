/**
 * AWS's list prices in US dollars, by hour or by month, of what is charged while it exists. They are on-demand prices
 * of Linux, without taxes and discounts.
 *
 * Written down in November 2026 from AWS's pricing pages, and not compared with a bill: AWS's calculator decides.
 * https://aws.amazon.com/ec2/pricing/on-demand/, https://aws.amazon.com/eks/pricing/,
 * https://aws.amazon.com/privatelink/pricing/, https://aws.amazon.com/vpc/pricing/,
 * https://aws.amazon.com/elasticloadbalancing/pricing/, https://aws.amazon.com/ebs/pricing/
 */

export interface Prices {
  /** Hourly, by instance type. */
  readonly instances: Readonly<Record<string, number>>;
  /** Hourly. */
  readonly kubernetes: number;
  /** Hourly, for each zone. */
  readonly interfaceEndpoint: number;
  /** Hourly. */
  readonly natGateway: number;
  /** Hourly. */
  readonly publicAddress: number;
  /** Hourly, with one capacity unit. */
  readonly networkLoadBalancer: number;
  /** Monthly, for a GiB of gp3. */
  readonly volume: number;
}

export const PRICES: Readonly<Record<string, Prices>> = {
  'us-east-1': {
    instances: { 'm6i.2xlarge': 0.384, 'm7g.2xlarge': 0.3264 },
    kubernetes: 0.1,
    interfaceEndpoint: 0.01,
    natGateway: 0.045,
    publicAddress: 0.005,
    networkLoadBalancer: 0.0225,
    volume: 0.08,
  },
  'eu-central-1': {
    instances: { 'm6i.2xlarge': 0.46, 'm7g.2xlarge': 0.3912 },
    kubernetes: 0.1,
    interfaceEndpoint: 0.012,
    natGateway: 0.052,
    publicAddress: 0.005,
    networkLoadBalancer: 0.027,
    volume: 0.0952,
  },
};

/** Monthly prices that are equal in every region. */
export const EVERYWHERE = { alarm: 0.1, key: 1, hostedZone: 0.5, secret: 0.4, dashboard: 3 } as const;

/** AWS's own convention for estimates. */
export const HOURS_OF_A_MONTH = 730;
