//! The messages, field by field.

use serde_json::Value;

use super::Kind::{
    Fields, Integer, MicroTime, OptionalBoolean, OptionalInteger, OptionalText, Part, PartMap, Parts, Text, TextMap,
    Texts, Time,
};
use super::{Kind, Message};

pub(super) static UNKNOWN: Message =
    Message(&[(1, "typeMeta", Part(&TYPE_META)), (3, "contentEncoding", Text), (4, "contentType", Text)]);
static TYPE_META: Message = Message(&[(1, "apiVersion", Text), (2, "kind", Text)]);
pub(super) static FIELDS: Message = Message(&[(1, "raw", Text)]);
pub(super) static ITEMS: Message = Message(&[(1, "items", Texts)]);

static META: Message = Message(&[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (4, "selfLink", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Integer),
    (8, "creationTimestamp", Time),
    (9, "deletionTimestamp", Time),
    (10, "deletionGracePeriodSeconds", OptionalInteger),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", Parts(&OWNER)),
    (14, "finalizers", Texts),
    (17, "managedFields", Parts(&MANAGED)),
]);
static OWNER: Message = Message(&[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", OptionalBoolean),
    (7, "blockOwnerDeletion", OptionalBoolean),
]);
static MANAGED: Message = Message(&[
    (1, "manager", Text),
    (2, "operation", Text),
    (3, "apiVersion", Text),
    (4, "time", Time),
    (6, "fieldsType", Text),
    (7, "fieldsV1", Fields),
    (8, "subresource", Text),
]);

static NAMESPACE: Message = Message(&[
    (1, "metadata", Part(&META)),
    (2, "spec", Part(&NAMESPACE_SPEC)),
    (3, "status", Part(&NAMESPACE_STATUS)),
]);
static NAMESPACE_SPEC: Message = Message(&[(1, "finalizers", Texts)]);
static NAMESPACE_STATUS: Message = Message(&[(1, "phase", Text), (2, "conditions", Parts(&NAMESPACE_CONDITION))]);
static NAMESPACE_CONDITION: Message = Message(&[
    (1, "type", Text),
    (2, "status", Text),
    (4, "lastTransitionTime", Time),
    (5, "reason", Text),
    (6, "message", Text),
]);

static SECRET: Message = Message(&[
    (1, "metadata", Part(&META)),
    (2, "data", Kind::BinaryMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", OptionalBoolean),
]);
static CONFIG_MAP: Message = Message(&[
    (1, "metadata", Part(&META)),
    (2, "data", TextMap),
    (3, "binaryData", Kind::BinaryMap),
    (4, "immutable", OptionalBoolean),
]);

static RESOURCE_QUOTA: Message =
    Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&QUOTA_SPEC)), (3, "status", Part(&QUOTA_STATUS))]);
static QUOTA_SPEC: Message = Message(&[(1, "hard", Kind::QuantityMap), (2, "scopes", Texts)]);
static QUOTA_STATUS: Message = Message(&[(1, "hard", Kind::QuantityMap), (2, "used", Kind::QuantityMap)]);
pub(super) static QUANTITY: Message = Message(&[(1, "string", Text)]);

static REFERENCE: Message = Message(&[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
]);
static SOURCE: Message = Message(&[(1, "component", Text), (2, "host", Text)]);
static SERIES: Message = Message(&[(1, "count", Integer), (2, "lastObservedTime", MicroTime)]);
static CORE_EVENT: Message = Message(&[
    (1, "metadata", Part(&META)),
    (2, "involvedObject", Part(&REFERENCE)),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", Part(&SOURCE)),
    (6, "firstTimestamp", Time),
    (7, "lastTimestamp", Time),
    (8, "count", Integer),
    (9, "type", Text),
    (10, "eventTime", MicroTime),
    (11, "series", Part(&SERIES)),
    (12, "action", Text),
    (13, "related", Part(&REFERENCE)),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
]);
static EVENT: Message = Message(&[
    (1, "metadata", Part(&META)),
    (2, "eventTime", MicroTime),
    (3, "series", Part(&SERIES)),
    (4, "reportingController", Text),
    (5, "reportingInstance", Text),
    (6, "action", Text),
    (7, "reason", Text),
    (8, "regarding", Part(&REFERENCE)),
    (9, "related", Part(&REFERENCE)),
    (10, "note", Text),
    (11, "type", Text),
    (12, "deprecatedSource", Part(&SOURCE)),
    (13, "deprecatedFirstTimestamp", Time),
    (14, "deprecatedLastTimestamp", Time),
    (15, "deprecatedCount", Integer),
]);

static LEASE: Message = Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&LEASE_SPEC))]);
static LEASE_SPEC: Message = Message(&[
    (1, "holderIdentity", OptionalText),
    (2, "leaseDurationSeconds", OptionalInteger),
    (3, "acquireTime", MicroTime),
    (4, "renewTime", MicroTime),
    (5, "leaseTransitions", OptionalInteger),
    (6, "strategy", OptionalText),
    (7, "preferredHolder", OptionalText),
]);

static DELETE_OPTIONS: Message = Message(&[
    (1, "gracePeriodSeconds", OptionalInteger),
    (2, "preconditions", Part(&PRECONDITIONS)),
    (3, "orphanDependents", OptionalBoolean),
    (4, "propagationPolicy", OptionalText),
    (5, "dryRun", Texts),
]);
static PRECONDITIONS: Message = Message(&[(1, "uid", OptionalText), (2, "resourceVersion", OptionalText)]);

static SERVICE_ACCOUNT: Message = Message(&[
    (1, "metadata", Part(&META)),
    (2, "secrets", Parts(&REFERENCE)),
    (3, "imagePullSecrets", Parts(&LOCAL_REFERENCE)),
    (4, "automountServiceAccountToken", OptionalBoolean),
]);
static LOCAL_REFERENCE: Message = Message(&[(1, "name", Text)]);

static RESOURCE_ATTRIBUTES: Message = Message(&[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
]);
static NON_RESOURCE_ATTRIBUTES: Message = Message(&[(1, "path", Text), (2, "verb", Text)]);
static SELF_SUBJECT_REVIEW: Message = Message(&[(1, "metadata", Part(&META))]);
static SELF_SUBJECT_ACCESS_REVIEW: Message =
    Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&SELF_ACCESS_SPEC))]);
static SELF_ACCESS_SPEC: Message = Message(&[
    (1, "resourceAttributes", Part(&RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Part(&NON_RESOURCE_ATTRIBUTES)),
]);
static SUBJECT_ACCESS_REVIEW: Message = Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&ACCESS_SPEC))]);
static ACCESS_SPEC: Message = Message(&[
    (1, "resourceAttributes", Part(&RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Part(&NON_RESOURCE_ATTRIBUTES)),
    (3, "user", Text),
    (4, "groups", Texts),
    (5, "extra", PartMap(&ITEMS)),
    (6, "uid", Text),
]);
static SELF_SUBJECT_RULES_REVIEW: Message = Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&RULES_SPEC))]);
static RULES_SPEC: Message = Message(&[(1, "namespace", Text)]);
static TOKEN_REVIEW: Message = Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&TOKEN_SPEC))]);
static TOKEN_SPEC: Message = Message(&[(1, "token", Text), (2, "audiences", Texts)]);

static TOKEN_REQUEST: Message = Message(&[(1, "metadata", Part(&META)), (2, "spec", Part(&TOKEN_REQUEST_SPEC))]);
static TOKEN_REQUEST_SPEC: Message = Message(&[
    (1, "audiences", Texts),
    (3, "boundObjectRef", Part(&BOUND_REFERENCE)),
    (4, "expirationSeconds", OptionalInteger),
]);
static BOUND_REFERENCE: Message =
    Message(&[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)]);

static ROLE: Message = Message(&[(1, "metadata", Part(&META)), (2, "rules", Parts(&RULE))]);
static CLUSTER_ROLE: Message =
    Message(&[(1, "metadata", Part(&META)), (2, "rules", Parts(&RULE)), (3, "aggregationRule", Part(&AGGREGATION))]);
static RULE: Message = Message(&[
    (1, "verbs", Texts),
    (2, "apiGroups", Texts),
    (3, "resources", Texts),
    (4, "resourceNames", Texts),
    (5, "nonResourceURLs", Texts),
]);
static AGGREGATION: Message = Message(&[(1, "clusterRoleSelectors", Parts(&LABEL_SELECTOR))]);
static LABEL_SELECTOR: Message = Message(&[(1, "matchLabels", TextMap), (2, "matchExpressions", Parts(&REQUIREMENT))]);
static REQUIREMENT: Message = Message(&[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)]);
/// Of a Role or a ClusterRole: the two kinds of bindings have the same fields.
static BINDING: Message =
    Message(&[(1, "metadata", Part(&META)), (2, "subjects", Parts(&SUBJECT)), (3, "roleRef", Part(&ROLE_REFERENCE))]);
static SUBJECT: Message =
    Message(&[(1, "kind", Text), (2, "apiGroup", Text), (3, "name", Text), (4, "namespace", Text)]);
static ROLE_REFERENCE: Message = Message(&[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)]);

macro_rules! decoders {
    ($($(#[$doc:meta])* $name:ident $message:ident)*) => {
        $($(#[$doc])* pub fn $name(raw: &[u8]) -> Result<Value, String> { $message.object(raw) })*
    };
}

decoders! {
    /// `v1 Namespace`
    namespace NAMESPACE
    /// `v1 Secret`
    secret SECRET
    /// `v1 ConfigMap`
    config_map CONFIG_MAP
    /// `v1 ResourceQuota`
    resource_quota RESOURCE_QUOTA
    /// `v1 Event`
    core_event CORE_EVENT
    /// `events.k8s.io/v1 Event`
    event EVENT
    /// `coordination.k8s.io/v1 Lease`
    lease LEASE
    /// `v1 ServiceAccount`
    service_account SERVICE_ACCOUNT
    /// `authentication.k8s.io/v1 TokenRequest`
    token_request TOKEN_REQUEST
    /// `rbac.authorization.k8s.io/v1 Role`
    role ROLE
    /// `rbac.authorization.k8s.io/v1 ClusterRole`
    cluster_role CLUSTER_ROLE
    /// `rbac.authorization.k8s.io/v1 RoleBinding` and `ClusterRoleBinding`
    binding BINDING
    /// `meta.k8s.io/v1 DeleteOptions`
    delete_options DELETE_OPTIONS
    /// `authentication.k8s.io/v1 SelfSubjectReview`
    self_subject_review SELF_SUBJECT_REVIEW
    /// `authentication.k8s.io/v1 TokenReview`
    token_review TOKEN_REVIEW
    /// `authorization.k8s.io/v1 SelfSubjectAccessReview`
    self_subject_access_review SELF_SUBJECT_ACCESS_REVIEW
    /// `authorization.k8s.io/v1 SelfSubjectRulesReview`
    self_subject_rules_review SELF_SUBJECT_RULES_REVIEW
    /// `authorization.k8s.io/v1 SubjectAccessReview`
    subject_access_review SUBJECT_ACCESS_REVIEW
}
