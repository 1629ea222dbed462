"""The fields of KubeRay's custom resources (ray.io/v1 of KubeRay v1.3), as JSON Schemas.

After the types that its operator publishes; pod templates are Kubernetes' own and are checked
with its schemas.
"""

from typing import Any

NUMBER_OF_PODS = {"type": "integer", "minimum": 0}
START_PARAMETERS = {"type": "object", "additionalProperties": {"type": "string"}}
POD_TEMPLATE = {"type": "object", "required": ["spec"]}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


CLUSTER_SPEC = _object(
    ["headGroupSpec"],
    rayVersion={"type": "string"},
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=_object(
        [],
        resources={"type": "object"},
        image={"type": "string"},
        imagePullPolicy={"enum": ["Always", "Never", "IfNotPresent"]},
        env={"type": "array"},
        envFrom={"type": "array"},
        volumeMounts={"type": "array"},
        securityContext={"type": "object"},
        idleTimeoutSeconds={"type": "integer", "minimum": 0},
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    headServiceAnnotations=START_PARAMETERS,
    suspend={"type": "boolean"},
    headGroupSpec=_object(
        ["rayStartParams", "template"],
        serviceType={"type": "string"},
        headService={"type": "object"},
        enableIngress={"type": "boolean"},
        rayStartParams=START_PARAMETERS,
        template=POD_TEMPLATE,
    ),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
            groupName={"type": "string"},
            replicas=NUMBER_OF_PODS,
            minReplicas=NUMBER_OF_PODS,
            maxReplicas=NUMBER_OF_PODS,
            numOfHosts={"type": "integer", "minimum": 1},
            rayStartParams=START_PARAMETERS,
            template=POD_TEMPLATE,
            scaleStrategy={"type": "object"},
        ),
    },
)
JOB_SPEC = _object(
    ["entrypoint", "rayClusterSpec"],
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit={"type": "integer", "minimum": 0},
    rayClusterSpec=CLUSTER_SPEC,
    submitterPodTemplate=POD_TEMPLATE,
    metadata=START_PARAMETERS,
    clusterSelector=START_PARAMETERS,
    submitterConfig={"type": "object"},
    managedBy={"type": "string"},
    deletionStrategy={"type": "object"},
    entrypoint={"type": "string"},
    runtimeEnvYAML={"type": "string"},
    jobId={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    entrypointResources={"type": "string"},
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished={"type": "integer", "minimum": 0},
    shutdownAfterJobFinishes={"type": "boolean"},
    suspend={"type": "boolean"},
)

SERVICE_SPEC = _object(
    ["rayClusterConfig"],
    serveConfigV2={"type": "string"},
    rayClusterConfig=CLUSTER_SPEC,
    serveService={"type": "object"},
    upgradeStrategy=_object([], type={"enum": ["NewCluster", "None"]}),
    excludeHeadPodFromServeSvc={"type": "boolean"},
)


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"type": "object", "required": ["name"]}
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


RESOURCES = {
    "RayCluster": _resource("RayCluster", CLUSTER_SPEC),
    "RayJob": _resource("RayJob", JOB_SPEC),
    "RayService": _resource("RayService", SERVICE_SPEC),
}
