// The part of tools/check-containers that reads YAML: schemas, and snippets as configurations of NGINX.
//
//     node check.mjs ROOT COMPOSE INGRESS GATEWAY      folders; "" if there is no checkout
import fs from 'node:fs';
import Ajv from 'ajv/dist/2019.js';
import AjvDraft7 from 'ajv';
import addFormats from 'ajv-formats';
import * as yaml from 'js-yaml';

const [root, compose, ingress, gateway] = process.argv.slice(2);
const read = path => fs.readFileSync(path, 'utf8');
const ours = name => `${root}/${name}`;
const load = path => yaml.load(read(path));
const isObject = value => value !== null && typeof value === 'object' && !Array.isArray(value);

let faults = 0;
function result(name, found) {
  console.log(`${found.length ? 'not ok' : 'ok'}: ${name}`);
  for (const fault of found) console.log(`    ${fault}`);
  faults += found.length;
}

// ---- schemas ----

// Validates with a schema. References to Kubernetes become calls of kubernetes-models, or "anything".
async function validator(schema, Class = Ajv) {
  const ajv = new Class({ strict: false, allErrors: true });
  addFormats(ajv);
  const models = {};
  const kubernetes = /^https:\/\/.*\/_definitions\.json#\/definitions\/([^/]+)(\/.*)?$/;
  const replaced = await (async function walk(node) {
    if (Array.isArray(node)) return Promise.all(node.map(walk));
    if (!isObject(node)) return node;
    const reference = typeof node.$ref === 'string' && node.$ref.match(kubernetes);
    const rest = Object.fromEntries(await Promise.all(Object.entries(node)
      .filter(([key]) => !(reference && key === '$ref')).map(async ([key, value]) => [key, await walk(value)])));
    if (!reference || reference[2]) return rest;
    // io.k8s.api.core.v1.Volume -> IoK8sApiCoreV1Volume
    const name = reference[1].split('.').map(part => part[0].toUpperCase() + part.slice(1)).join('');
    const group = name.startsWith('IoK8sApimachinery') ? '@kubernetes-models/apimachinery' : 'kubernetes-models';
    models[name] ??= (await import(`${group}/_schemas/${name}`)).validate;
    return { ...rest, kubernetes: name };
  })(schema);
  ajv.addKeyword({ keyword: 'kubernetes', validate: (name, data) => models[name](data) });
  delete replaced.$schema; // the class says which draft it is
  const validate = ajv.compile(replaced);
  return data => (validate(data) ? [] : validate.errors.map(e => `${e.instancePath || '/'} ${e.message}`));
}

// Names of the data that neither the schema nor the chart's default values have. Where both say nothing about the
// members of an object, each name is allowed.
function unknown(data, schema, defaults, path = '') {
  if (Array.isArray(data)) return data.flatMap((item, i) => unknown(item, schema?.items, undefined, `${path}/${i}`));
  if (!isObject(data)) return [];
  const properties = schema?.properties ?? {};
  const names = new Set([...Object.keys(properties), ...Object.keys(isObject(defaults) ? defaults : {})]);
  const open = names.size === 0 || isObject(schema?.additionalProperties);
  return Object.entries(data).flatMap(([name, value]) => (open || names.has(name)
    ? unknown(value, properties[name], isObject(defaults) ? defaults[name] : undefined, `${path}/${name}`)
    : [`${path}/${name} is unknown`]));
}

// What Helm does with values before it checks them: they are laid over the chart's own.
const merged = (defaults, values) => (isObject(defaults) && isObject(values)
  ? { ...defaults, ...Object.fromEntries(Object.entries(values).map(([k, v]) => [k, merged(defaults[k], v)])) }
  : values);

// Checks the data, and that each mistake is refused: a check that finds nothing would be none.
async function check(name, data, schema, defaults, mistakes, Class) {
  const validate = await validator(schema, Class);
  const all = values => [...validate(merged(defaults, values)), ...unknown(values, schema, defaults)];
  result(name, all(data));
  for (const [mistake, change] of Object.entries(mistakes)) {
    const wrong = structuredClone(data);
    change(wrong);
    result(`${mistake} is refused`, all(wrong).length ? [] : ['no fault was found']);
  }
}

const chart = (folder, name) => [JSON.parse(read(`${folder}/charts/${name}/values.schema.json`)),
  load(`${folder}/charts/${name}/values.yaml`)];

const stack = load(ours('compose.yaml'));
const ingressValues = load(ours('nginx-conf/kubernetes/nginx-ingress.yaml'));
const gatewayValues = load(ours('nginx-conf/kubernetes/nginx-gateway-fabric.yaml'));
const snippets = yaml.loadAll(read(ours('nginx-conf/kubernetes/nginx-gateway-fabric-snippets.yaml')));

if (compose) {
  await check('compose.yaml', stack, JSON.parse(read(`${compose}/schema/compose-spec.json`)), undefined, {
    'an unknown name in compose.yaml': s => { s.services.nginx.readonly = true; },
    'a wrong type in compose.yaml': s => { s.services.nginx.read_only = 1; },
  }, AjvDraft7);
}
if (ingress) {
  await check('nginx-ingress.yaml', ingressValues, ...chart(ingress, 'nginx-ingress'), {
    'an unknown name in nginx-ingress.yaml': v => { v.controller.snippets = {}; },
    'a wrong type in nginx-ingress.yaml': v => { v.controller.config.entries = 'x'; },
    'a port that is no number': v => { v.controller.customPorts[0].containerPort = 'x'; },
  });
}
if (gateway) {
  await check('nginx-gateway-fabric.yaml', gatewayValues, ...chart(gateway, 'nginx-gateway-fabric'), {
    'an unknown name in nginx-gateway-fabric.yaml': v => { v.nginxGateway.snippet = {}; },
    'a wrong value in nginx-gateway-fabric.yaml': v => { v.nginx.image.pullPolicy = 'Sometimes'; },
  });
  for (const object of snippets) {
    const kind = object.kind.toLowerCase().replace(/y$/, 'ie');
    const crd = load(`${gateway}/config/crd/bases/gateway.nginx.org_${kind}s.yaml`);
    const version = crd.spec.versions.find(v => `${crd.spec.group}/${v.name}` === object.apiVersion);
    const schema = version?.schema.openAPIV3Schema ?? false;
    // metadata is Kubernetes' own
    await check(`${object.kind} in nginx-gateway-fabric-snippets.yaml`, object, schema, undefined, {
      'a context that there is not': o => { o.spec.snippets[0].context = 'stream'; },
      'an unknown name in a snippet': o => { o.spec.snippets[0].text = ''; },
    }, AjvDraft7);
  }
}

// ---- mounts ----

result('each file that compose.yaml mounts exists', Object.values(stack.services).flatMap(s => s.volumes ?? [])
  .map(volume => volume.split(':')[0]).filter(path => path.startsWith('./') && !fs.existsSync(ours(path))));
result('the mounts of Grafana and its files name the same folder',
  load(ours('nginx-conf/compose/grafana/dashboards.yml')).providers
    .filter(p => !stack.services.grafana.volumes.some(v => v.split(':')[1].startsWith(`${p.options.path}/`)))
    .map(p => p.options.path));

// ---- configurations of NGINX ----

const configuration = (main, http, server, location) => `${main}
events { }
http {
${http}
server { listen 127.0.0.1:8080; server_name shop.example;
${server}
location / { return 204;
${location}
} } }
`;
const entries = ingressValues.controller.config.entries;
fs.writeFileSync('conf/nginx-ingress.conf', configuration(entries['main-snippets'],
  `${entries['http-snippets']}\nlog_format main '${entries['log-format']}'; access_log logs/access.log main;`,
  entries['server-snippets'], ''));
const snippet = context => snippets.flatMap(o => o.spec.snippets).filter(s => s.context === context)
  .map(s => s.value).join('\n');
fs.writeFileSync('conf/nginx-gateway-fabric.conf', configuration(snippet('main'), snippet('http'),
  snippet('http.server'), snippet('http.server.location')));
fs.writeFileSync('conf/compose.conf', configuration('load_module modules/ngx_http_request_cpu_module.so;',
  `request_cpu_zone $host zone=domains:8m;\n${read(ours('nginx-conf/compose/status.conf'))}`,
  'request_cpu zone=domains;', ''));

process.exit(faults ? 1 : 0);
