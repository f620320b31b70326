"""The Terraform module: its own tests, and made, used, changed and destroyed in two emulators.

Needs `terraform` (or TF=tofu) and the AWS provider; without them all is skipped, and said.
"""

import base64
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from emulators import BINARY, NODE_ZIP, REGION, ROOT, Moto, Proxy

MODULE = ROOT / "deploy/terraform"
TF = os.environ.get("TF", "terraform")
ARCHITECTURE = NODE_ZIP.stem.removeprefix("node-")

ROOT_MODULE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region                      = "%(region)s"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}

variable "nodes" {
  type = number
}

variable "drained_to" {
  type    = number
  default = null
}

variable "memory_mb" {
  type    = number
  default = 512
}

variable "emptied_for" {
  type    = string
  default = null
}

module "pool" {
  source = "./module"

  name                        = "%(name)s"
  architecture                = "%(architecture)s"
  node_package                = "%(node)s"
  proxy_package               = "%(proxy)s"
  nodes                       = var.nodes
  drained_to                  = var.drained_to
  node_memory_mb              = var.memory_mb
  emptied_for                 = var.emptied_for
  data_parity                 = "3+2"
  client_cidrs                = ["10.0.0.0/16"]
  backing_store               = true
  backing_store_force_destroy = true
  alarm_emails                = ["ops@example.com"]
  %(more)s
}

output "pool" {
  value = module.pool
}
"""

# MiniStack does not know reservations of addresses, and where which machines are offered.
MINISTACK_LACKS = {
    "modules/network": """
resource "aws_ec2_subnet_cidr_reservation" "proxy_address" {
  count = 0
}
""",
    ".": """
data "aws_ec2_instance_type_offerings" "proxy" {
  count = 0
}

locals {
  offered_in = [local.zone]
}
""",
}


def mirrors():
    """Folders that may have the provider, where no registry can be reached."""
    if "TF_PLUGIN_MIRROR" in os.environ:
        yield pathlib.Path(os.environ["TF_PLUGIN_MIRROR"])
    for parent in ("/usr/local/share", "/usr/share", "/opt", pathlib.Path.home() / ".terraform.d"):
        for provider in pathlib.Path(parent).glob("*/registry.*/hashicorp/aws"):
            yield provider.parents[2]


def finds_the_provider(tf, folder):
    """Environment in which `init` finds the provider, or a visible skip."""
    if not shutil.which(tf):
        pytest.skip(f"{tf} is not installed: the Terraform module is not tested with it")
    (folder / "main.tf").write_text('terraform {\n  required_providers {\n    aws = { source = "hashicorp/aws" }\n  }\n}\n')
    ways = [dict(os.environ)]
    for number, mirror in enumerate(mirrors()):
        file = folder / f"{number}.tfrc"
        file.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n')
        ways.insert(number, {**os.environ, "TF_CLI_CONFIG_FILE": str(file)})
    for way in ways:
        way |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
        done = run("init", folder, way, check=False, tf=tf)
        if done.returncode == 0:
            return way
    pytest.skip(f"{tf} init does not get the AWS provider (set TF_PLUGIN_MIRROR): "
                f"{done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no reason given'}")


@pytest.fixture(scope="session")
def configuration(tmp_path_factory):
    return finds_the_provider(TF, tmp_path_factory.mktemp("terraform"))


def run(what, folder, environment, *arguments, check=True, tf=TF):
    done = subprocess.run([tf, what, *(["-no-color"] if what != "fmt" else []), *arguments], cwd=folder,
                          env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{tf} {what}:\n{done.stdout[-3000:]}\n{done.stderr}"
    return done


def copied(folder, lacks={}):
    """The module where Terraform may leave its files, without what an emulator lacks."""
    shutil.copytree(MODULE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    for place, text in lacks.items():
        (folder / place / "emulator_override.tf").write_text(text)
    return folder


def test_it_is_formatted(configuration):
    run("fmt", MODULE, configuration, "-check", "-recursive", "-diff")


@pytest.mark.parametrize("tf", sorted({TF, "tofu"}))
def test_its_own_tests(tf, tmp_path):
    configuration = finds_the_provider(tf, tmp_path)
    module = copied(tmp_path / "module")
    run("init", module, configuration, "-backend=false", tf=tf)
    run("validate", module, configuration, tf=tf)
    # a file takes most of a minute, and half of a core
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        files = sorted(file.name for file in (MODULE / "tests").glob("*.tftest.hcl"))
        done = list(threads.map(lambda file: run("test", module, configuration, f"-filter=tests/{file}", tf=tf), files))
    for file, one in zip(files, done):
        print(one.stdout)
        runs = (MODULE / "tests" / file).read_text().count('\nrun "')
        assert runs and f"Success! {runs} passed, 0 failed." in one.stdout, file


def test_no_endpoint_takes_the_address_of_the_proxy(configuration, tmp_path):
    """Endpoints and the machine get addresses of the subnet: not before that one is reserved."""
    module = copied(tmp_path / "module")
    run("init", module, configuration, "-backend=false")
    graph = run("graph", module, configuration, "-type=plan").stdout
    edges = {}
    for later, earlier in re.findall(r'"\[root\] (.+)" -> "\[root\] (.+)"', graph):
        edges.setdefault(later.removesuffix(" (expand)"), set()).add(earlier.removesuffix(" (expand)"))
    for later in ("module.network.aws_vpc_endpoint.service", "module.proxy.aws_autoscaling_group.proxy"):
        before, ahead = set(), [later]
        while ahead:
            new = edges.get(ahead.pop(), set()) - before
            before |= new
            ahead.extend(new)
        assert "module.network.aws_ec2_subnet_cidr_reservation.proxy_address" in before, later


@pytest.mark.parametrize("example", ["small", "medium", "large"])
def test_examples_cost_what_the_readme_says(cloud, configuration, tmp_path, example):
    module = copied(tmp_path / "terraform", {".": MINISTACK_LACKS["."]})
    folder = module / "examples" / example
    for name in ("node-arm64.zip", "scatterhoard-arm64.tar.gz"):
        (folder / name).write_bytes(b"not looked into by a plan")
    environment = {**configuration, **cloud.environment}
    run("init", folder, environment, "-backend=false")
    run("validate", folder, environment)
    run("plan", folder, environment, "-out=plan", "-var=packages=.")
    plan = json.loads(run("show", folder, environment, "-json", "plan").stdout)
    pool = plan["output_changes"]["pool"]["after"]
    (row,) = [line for line in (MODULE / "README.md").read_text().splitlines() if line.startswith(f"| {example} |")]
    assert f"| {pool['capacity_gb']} GB | {pool['idle_usd_per_hour']} |" in row, pool


def test_prices_are_those_of_the_cost_model():
    file = json.loads((ROOT / "bench/prices/us-east-1.json").read_text())
    text = (MODULE / "prices.tf").read_text()
    machines = dict(re.findall(r'"([a-z0-9]+\.[a-z0-9]+)"\s*= ([0-9.]+)', text))
    assert machines
    for name, price in machines.items():
        assert file["ec2"]["types"][name]["usd_h"] == float(price), name
    text = (MODULE / "variables.tf").read_text()
    prices = {name: float(price) for name, price in re.findall(r"(\w+)\s*= optional\(number, ([0-9.e-]+)\)", text)}
    assert prices["request_usd"] == file["lambda_"]["request"]
    assert prices["x86_64_gb_s_usd"] == file["lambda_"]["x86_gb_s"][0][1]
    assert prices["arm64_gb_s_usd"] == file["lambda_"]["arm_gb_s"][0][1]


class Deployment:
    """The module, made in an emulator."""

    def __init__(self, emulator, configuration, folder, name, more="", lacks={}):
        self.folder, self.name = folder, name
        self.environment = {**configuration, **emulator.environment}
        copied(folder / "module", lacks)
        proxy = folder / "proxy.tar.gz"
        proxy.write_bytes(b"what is in it is of no matter here")
        (folder / "main.tf").write_text(ROOT_MODULE % {
            "region": REGION, "name": name, "node": NODE_ZIP, "proxy": proxy, "more": more,
            "architecture": ARCHITECTURE,
        })
        run("init", folder, configuration)

    def apply(self, nodes, *more):
        run("apply", self.folder, self.environment, "-auto-approve", f"-var=nodes={nodes}", *more)
        done = run("output", self.folder, self.environment, "-json", "pool")
        return json.loads(done.stdout)

    def destroy(self, nodes):
        run("destroy", self.folder, self.environment, "-auto-approve", f"-var=nodes={nodes}")
        state = json.loads((self.folder / "terraform.tfstate").read_text())
        assert state["resources"] == []


@pytest.fixture(scope="module")
def deployed(cloud, configuration, tmp_path_factory):
    """The whole module in MiniStack, with seven nodes."""
    deployment = Deployment(cloud, configuration, tmp_path_factory.mktemp("deployed"), "builds",
                            "monthly_budget_usd = 100", MINISTACK_LACKS)
    deployment.outputs = deployment.apply(7)
    return deployment


class Pool:
    """What the proxy must know of the functions that Terraform made."""

    def __init__(self, outputs):
        self.prefix, self.names, self.memory_mb = outputs["function_prefix"], outputs["functions"], 512


def listed(cloud, prefix):
    pages = cloud.aws("lambda").get_paginator("list_functions").paginate()
    names = [function["FunctionName"] for page in pages for function in page["Functions"]]
    return sorted(name for name in names if name.startswith(prefix))


def test_functions_are_as_they_should_be(cloud, deployed):
    assert listed(cloud, "builds-node-") == deployed.outputs["functions"]
    found = cloud.aws("lambda").get_function_configuration(FunctionName="builds-node-006")
    assert (found["Runtime"], found["MemorySize"], found["Timeout"]) == ("provided.al2023", 512, 900)
    assert found["Environment"]["Variables"]["MIMALLOC_PURGE_DELAY"] == "0"
    assert found["Role"] == deployed.outputs["node_role_arn"]
    assert found["LoggingConfig"]["LogFormat"] == "JSON"
    assert found["LoggingConfig"]["SystemLogLevel"] == "WARN"
    assert len(found["VpcConfig"]["SubnetIds"]) == 1
    groups = cloud.aws("logs").describe_log_groups(logGroupNamePrefix="/scatterhoard/builds")["logGroups"]
    assert [(group["logGroupName"], group["retentionInDays"]) for group in groups] == [("/scatterhoard/builds/nodes", 14)]


def allowed(cloud, role, action, resource):
    done = cloud.aws("iam").simulate_principal_policy(
        PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource]
    )
    return done["EvaluationResults"][0]["EvalDecision"] == "allowed"


def test_what_the_proxy_may_do(cloud, deployed):
    role = deployed.outputs["proxy_role_arn"]
    account = role.split(":")[4]
    function = f"arn:aws:lambda:{REGION}:{account}:function:"
    for action in ("lambda:InvokeFunction", "lambda:GetFunctionConfiguration"):
        for name in deployed.outputs["functions"]:
            assert allowed(cloud, role, action, function + name), name
        for name in ("builds-node-007", "builds-node-0060", "builds-node-", "other", "builds", "other-node-000"):
            assert not allowed(cloud, role, action, function + name), name
    for action in ("lambda:UpdateFunctionCode", "lambda:DeleteFunction", "lambda:CreateFunction"):
        assert not allowed(cloud, role, action, function + "builds-node-000"), action
    parameter = f"arn:aws:ssm:{REGION}:{account}:parameter/scatterhoard/"
    assert allowed(cloud, role, "ssm:GetParameter", parameter + "builds/requirepass")
    assert not allowed(cloud, role, "ssm:GetParameter", parameter + "others/requirepass")
    assert not allowed(cloud, role, "ssm:PutParameter", parameter + "builds/requirepass")
    bucket = f"arn:aws:s3:::{deployed.outputs['backing_bucket']}"
    assert allowed(cloud, role, "s3:PutObject", f"{bucket}/cache/object")
    assert allowed(cloud, role, "s3:ListBucket", bucket)
    assert not allowed(cloud, role, "s3:PutObject", f"{bucket}/elsewhere")
    assert not allowed(cloud, role, "s3:DeleteBucket", bucket)
    assert not allowed(cloud, role, "s3:GetObject", "arn:aws:s3:::others/object")
    volume = f"arn:aws:ec2:{REGION}:{account}:volume/"
    assert allowed(cloud, role, "ec2:AttachVolume", volume + deployed.outputs["journal_volume_id"])
    assert not allowed(cloud, role, "ec2:AttachVolume", volume + "vol-00000000000000000")
    for action in ("iam:PassRole", "ec2:RunInstances", "ec2:TerminateInstances", "sts:AssumeRole", "s3:CreateBucket"):
        assert not allowed(cloud, role, action, "*"), action


def test_what_a_node_may_do(cloud, deployed):
    role = deployed.outputs["node_role_arn"]
    account = role.split(":")[4]
    log = f"arn:aws:logs:{REGION}:{account}:log-group:/scatterhoard/"
    assert allowed(cloud, role, "logs:PutLogEvents", log + "builds/nodes:log-stream:any")
    assert not allowed(cloud, role, "logs:PutLogEvents", log + "others/nodes:log-stream:any")
    assert not allowed(cloud, role, "logs:CreateLogGroup", log + "builds/nodes")
    # what Lambda needs of the role to put functions into a VPC
    assert allowed(cloud, role, "ec2:CreateNetworkInterface", "*")
    function = f"arn:aws:lambda:{REGION}:{account}:function:builds-node-000"
    for action, resource in [("lambda:InvokeFunction", function), ("s3:GetObject", "arn:aws:s3:::any/object"),
                             ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{account}:parameter/scatterhoard/builds/requirepass"),
                             ("ec2:AttachVolume", "*"), ("ec2:RunInstances", "*"), ("sts:AssumeRole", "*")]:
        assert not allowed(cloud, role, action, resource), action


def test_a_function_may_not_use_what_lambda_needs(cloud, deployed):
    """The denial for calls from within a function, which the simulation of roles has no context for."""
    role = deployed.outputs["node_role_arn"].split("/")[-1]
    iam = cloud.aws("iam")
    document = iam.get_role_policy(RoleName=role, PolicyName="node")["PolicyDocument"]
    (denied,) = [statement for statement in document["Statement"] if statement["Effect"] == "Deny"]
    assert denied["Action"] == "ec2:*" and denied["Resource"] == "*"
    assert list(denied["Condition"]) == ["ArnLike"]
    assert denied["Condition"]["ArnLike"]["lambda:SourceFunctionArn"].endswith(":function:builds-node-*")


def latest_template(cloud):
    ec2 = cloud.aws("ec2")
    (template,) = ec2.describe_launch_template_versions(
        LaunchTemplateId=ec2.describe_launch_templates()["LaunchTemplates"][0]["LaunchTemplateId"],
        Versions=["$Latest"],
    )["LaunchTemplateVersions"]
    return template


def settings(cloud):
    found = cloud.aws("ssm").get_parameter(Name="/scatterhoard/builds/scatterhoard.toml", WithDecryption=True)
    return found["Parameter"]["Value"]


def test_user_data_installs_and_holds_no_secrets(cloud, deployed):
    text = base64.b64decode(latest_template(cloud)["LaunchTemplateData"]["UserData"]).decode()
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    assert f"VOLUME={deployed.outputs['journal_volume_id']}\n" in text
    assert "SECRETS=/scatterhoard/builds\n" in text and "ADDRESS=10.87.0.13\n" in text
    assert not re.search("password|requirepass|secret_key", text, re.I)
    assert not re.search("data_parity|function_prefix|nodes", text)


def test_settings_come_to_the_proxy(cloud, deployed):
    """From Terraform by the parameter store, the machine's boot.env and scatterhoard-boot to the program."""
    cloud.aws("ssm").put_parameter(Name="/scatterhoard/builds/requirepass", Value="secret", Type="SecureString")
    text = base64.b64decode(latest_template(cloud)["LaunchTemplateData"]["UserData"]).decode()
    told = text.split("boot.env <<'SETTINGS'\n")[1].split("SETTINGS\n")[0].splitlines()
    file, ran = deployed.folder / "boot.env", deployed.folder / "run"
    # neither a volume nor a card is there
    file.write_text("".join(f"{line}\n" for line in told if not line.startswith(("VOLUME=", "ADDRESS="))))
    owner = subprocess.run(["id", "-gn"], capture_output=True, text=True).stdout.strip()
    done = subprocess.run(
        [ROOT / "deploy/proxy/scatterhoard-boot"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, **cloud.environment, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
             "SCATTERHOARD_BOOT_ENV": str(file), "SCATTERHOARD_RUN": str(ran), "SCATTERHOARD_OWNER": owner,
             "SCATTERHOARD_STATE": str(deployed.folder / "state")},
    )
    assert done.returncode == 0, done.stderr
    assert (ran / "scatterhoard.toml").read_text() == settings(cloud)
    environment = dict(line.split("=", 1) for line in (ran / "environment").read_text().splitlines())
    # the program reads the file before it looks at the rest
    done = subprocess.run([BINARY, "serve", "--data-parity", "none"], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "data_parity" in done.stderr and "toml" not in done.stderr, done.stderr
    toml = (ran / "scatterhoard.toml")
    toml.write_text(toml.read_text() + "no_such_setting = 1\n")
    done = subprocess.run([BINARY, "serve"], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no_such_setting" in done.stderr, done.stderr


def pool(proxy, *order):
    done = subprocess.run([BINARY, "pool", *order, "--admin", f"127.0.0.1:{proxy.admin_port}"],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def active(proxy):
    return sum(node["state"] == "active" for node in json.loads(proxy.admin("/pool"))["nodes"])


def test_applied_used_scaled_and_destroyed(cloud, deployed):
    disk = deployed.folder / "disk"
    proxy = Proxy(cloud, Pool(deployed.outputs), data_dir=disk)
    values = {f"key:{i}": bytes([i]) * 2_500_000 for i in range(5)}
    with proxy.client() as client:
        for key, value in values.items():
            client.set(key, value)
        for key, value in values.items():
            assert client.get(key) == value
        # more nodes beside those that serve; what a machine is told stays
        told = latest_template(cloud)["LaunchTemplateData"]["UserData"]
        assert "\nnodes = 7\n" in settings(cloud)
        deployed.outputs = deployed.apply(9)
        assert latest_template(cloud)["LaunchTemplateData"]["UserData"] == told
        assert "\nnodes = 9\n" in settings(cloud)
        assert listed(cloud, "builds-node-") == [f"builds-node-{i:03}" for i in range(9)]
        assert allowed(cloud, deployed.outputs["proxy_role_arn"], "lambda:InvokeFunction",
                       f"arn:aws:lambda:{REGION}:{deployed.outputs['proxy_role_arn'].split(':')[4]}:function:builds-node-008")
        pool(proxy, "add", "2")
        assert active(proxy) == 9
        client.set("wide", b"y" * 2_500_000)
        for key, value in values.items():
            assert client.get(key) == value
    # another start: a new program with the old one's disk, and the new number
    proxy.stop()
    proxy = Proxy(cloud, Pool(deployed.outputs), data_dir=disk)
    with proxy.client() as client:
        for key, value in values.items():
            assert client.get(key) == value
        client.set("more", b"x" * 2_500_000)
        values |= {"more": b"x" * 2_500_000, "wide": b"y" * 2_500_000}
        # fewer: not before they are empty, and that is said
        words = refused(deployed, "-var=nodes=7")
        assert "builds-node-007, builds-node-008. Empty them first" in words, words
        assert "scatterhoard pool drain 2 --wait" in words and "drained_to = 7" in words
        # nor other memory, at which Lambda would replace all instances
        have, will_have = (f"{mb} MB, 900 s, {ARCHITECTURE}" for mb in (512, 1024))
        words = refused(deployed, "-var=nodes=9", "-var=memory_mb=1024")
        assert f"have {have}, and are to have {will_have}" in words, words
        assert f'set emptied_for = "{will_have}"' in words, words
        run("plan", deployed.folder, deployed.environment, "-var=nodes=9", "-var=memory_mb=1024",
            f"-var=emptied_for={will_have}")
        pool(proxy, "drain", "2", "--wait")
        deployed.outputs = deployed.apply(7, "-var=drained_to=7")
        assert listed(cloud, "builds-node-") == [f"builds-node-{i:03}" for i in range(7)]
        for key, value in values.items():
            assert client.get(key) == value
    proxy.stop()
    proxy = Proxy(cloud, Pool(deployed.outputs), data_dir=disk)
    with proxy.client() as client:
        for key, value in values.items():
            assert client.get(key) == value
    proxy.stop()
    deployed.destroy(7)
    assert listed(cloud, "builds-node-") == []


def refused(deployed, *arguments):
    """What a plan is refused with, in one line."""
    done = run("plan", deployed.folder, deployed.environment, *arguments, check=False)
    assert done.returncode != 0, done.stdout
    return " ".join(re.sub("[│╵╷]", " ", done.stderr).split())


def test_moto_takes_the_same_calls(configuration, tmp_path):
    """A second judge, stricter in EC2: it knows reservations, and revokes what groups begin with."""
    moto = Moto()
    # moto cannot describe who is told of a budget
    deployment = Deployment(moto, configuration, tmp_path, "judged")
    outputs = deployment.apply(5)
    ec2 = moto.aws("ec2")
    groups = {group["GroupName"].split("-2")[0]: group for group in ec2.describe_security_groups()["SecurityGroups"]}
    (link,) = groups["judged-nodes"]["IpPermissionsEgress"]
    assert (link["FromPort"], link["ToPort"], link["IpRanges"]) == (7000, 7000, [])
    assert [pair["GroupId"] for pair in link["UserIdGroupPairs"]] == [groups["judged-proxy"]["GroupId"]]
    assert groups["judged-nodes"]["IpPermissions"] == []
    assert {rule["FromPort"] for rule in groups["judged-proxy"]["IpPermissions"]} == {6379, 7000}
    subnets = ec2.describe_subnets(Filters=[{"Name": "tag:ScatterhoardPool", "Values": ["judged"]}])["Subnets"]
    assert len(subnets) == 2 and len({subnet["AvailabilityZone"] for subnet in subnets}) == 1
    volumes = ec2.describe_volumes(VolumeIds=[outputs["journal_volume_id"]])["Volumes"]
    assert volumes[0]["Encrypted"] and volumes[0]["AvailabilityZone"] == subnets[0]["AvailabilityZone"]
    functions = moto.aws("lambda").list_functions()["Functions"]
    assert sorted(function["FunctionName"] for function in functions) == outputs["functions"]
    deployment.destroy(5)
    assert moto.aws("lambda").list_functions()["Functions"] == []
    moto.stop()
