"""Checks compose.yaml and contrib/kubernetes by their schemas, and that their parts fit each other.

    check.py                 checks all
    check.py configuration   prints the gateway's configuration in Kubernetes, for the test of the image
"""

import json
import pathlib
import sys
from importlib import metadata

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = ROOT / 'compose.yaml'
GATEWAY = ROOT / 'contrib/kubernetes/gateway.yaml'
# The oldest that Kubernetes still maintains today, more or less, and the newest that has a schema.
KUBERNETES = ['1.33', '1.37']


def main(words):
    if words == ['configuration']:
        sys.stdout.write(kubernetes_objects()['ConfigMap']['data']['gateway.conf'])
        return
    check_compose(yaml.safe_load(COMPOSE.read_text()))
    check_kubernetes(kubernetes_objects())
    print('manifests: compose.yaml and contrib/kubernetes fit their schemas')


def check_compose(compose):
    schema = next(file for file in metadata.files('docker-compose') if file.name == 'compose_spec.json')
    jsonschema.validate(compose, json.loads(schema.read_text()))
    services = compose['services']
    stages = {words[3] for line in (ROOT / 'Dockerfile').read_text().splitlines()
              if (words := line.split())[:1] == ['FROM'] and words[2:3] == ['AS']}
    for name, service in services.items():
        for other in service.get('depends_on', []):
            expect(other in services, f'{name} depends on {other}, which is no service')
        network = service.get('network_mode', '')
        expect(not network or network.partition('service:')[2] in services, f'{name} has network {network}')
        build = service['build']
        if isinstance(build, dict):
            expect(build['target'] in stages, f'the Dockerfile has no stage {build["target"]}')
        for volume in service.get('volumes', []):
            source, _, mode = volume.split(':')
            expect((ROOT / source).is_file() and mode == 'ro', f'{name} mounts {volume}')
        expect(service['read_only'], f'{name} can write to its root')


def kubernetes_objects():
    return {each['kind']: each for each in yaml.safe_load_all(GATEWAY.read_text())}


def check_kubernetes(objects):
    for each in objects.values():
        for version in KUBERNETES:
            kubernetes_validate.validate(each, version, strict=True)
    deployment, service = objects['Deployment']['spec'], objects['Service']['spec']
    template = deployment['template']
    labels = template['metadata']['labels']
    pod, (container,) = template['spec'], template['spec']['containers']
    expect(deployment['selector']['matchLabels'] == labels == service['selector'], 'the labels differ')
    expect(pod['securityContext']['runAsNonRoot'], 'it may run as root')
    expect(container['securityContext']['readOnlyRootFilesystem'], 'it can write to its root')
    ports = {port['name']: port['containerPort'] for port in container['ports']}
    for probe in 'readinessProbe', 'livenessProbe':
        expect(container[probe]['httpGet']['port'] in ports, f'{probe} asks a port that there is not')
    expect({port['targetPort'] for port in service['ports']} == {'http'}, 'the Service has other ports')
    annotations = template['metadata']['annotations']
    expect(int(annotations['prometheus.io/port']) == ports['metrics'], 'Prometheus asks another port')
    volumes = {volume['name']: volume for volume in pod['volumes']}
    mounts = {mount['name']: mount['mountPath'] for mount in container['volumeMounts']}
    expect(volumes.keys() == mounts.keys(), 'not all volumes are mounted')
    expect(volumes['configuration']['configMap']['name'] == objects['ConfigMap']['metadata']['name'], 'another ConfigMap')
    configuration = objects['ConfigMap']['data']['gateway.conf']
    expect(f'file:{mounts["password"]}/password;' in configuration, 'the password is elsewhere')
    for port in ports.values():
        expect(f'listen {port};' in configuration, f'nothing listens on {port}')


def expect(holds, otherwise):
    if not holds:
        sys.exit(f'manifests: {otherwise}')


if __name__ == '__main__':
    main(sys.argv[1:])
