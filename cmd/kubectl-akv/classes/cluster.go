package classes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// What the API server calls the classes, and how many it returns at once.
const (
	api      = "/apis/" + group + "v1"
	resource = "secretproviderclasses"
	pageSize = 500
)

// get starts a request. The clientset knows nothing of the driver's API, but has what sends it.
func get(client kubernetes.Interface, namespace string) *rest.Request {
	request := client.CoreV1().RESTClient().Get().AbsPath(api).Resource(resource).SetHeader("Accept", "application/json")
	if namespace != "" {
		request = request.Namespace(namespace)
	}
	return request
}

// send returns the body of the response, or the error with the API server's own words, which DoRaw
// drops.
func send(ctx context.Context, request *rest.Request) ([]byte, error) {
	result := request.Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

// Get reads one class of the cluster. One of another provider is an error.
func Get(ctx context.Context, client kubernetes.Interface, namespace, name string) (*Class, error) {
	text, err := send(ctx, get(client, namespace).Name(name))
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no SecretProviderClass %s/%s", namespace, name)
	case err != nil:
		return nil, fmt.Errorf("SecretProviderClass %s/%s: %w", namespace, name, err)
	}
	found, err := Read([]string{"-"}, bytes.NewReader(text))
	switch {
	case err != nil:
		return nil, err
	case len(found.Classes) == 1:
		return found.Classes[0], nil
	case len(found.Skipped) == 1:
		return nil, fmt.Errorf("SecretProviderClass %s/%s: %s", namespace, name, found.Skipped[0].Cause)
	}
	return nil, fmt.Errorf("SecretProviderClass %s/%s: the API server returned something else", namespace, name)
}

// List reads the classes of this provider in a namespace, or in all with "". The errors of the API
// server are returned as they are.
func List(ctx context.Context, client kubernetes.Interface, namespace string) ([]*Class, error) {
	var all []*Class
	for next := ""; ; {
		request := get(client, namespace).Param("limit", strconv.Itoa(pageSize))
		if next != "" {
			request = request.Param("continue", next)
		}
		text, err := send(ctx, request)
		if err != nil {
			return nil, err
		}
		found, err := Read([]string{"-"}, bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		all = append(all, found.Classes...)
		var page struct {
			Metadata metav1.ListMeta `json:"metadata"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, fmt.Errorf("list of SecretProviderClasses: %w", err)
		}
		if next = page.Metadata.Continue; next == "" {
			return all, nil
		}
	}
}

// ListReadable is List for all namespaces, as far as the user may read them: where not all at
// once, one namespace after the other; where not even the namespaces can be listed, the user's own.
// Missing says what was not read.
func ListReadable(ctx context.Context, client kubernetes.Interface, own string) (all []*Class, missing []string, err error) {
	all, err = List(ctx, client, "")
	if !apierrors.IsForbidden(err) {
		return all, nil, err
	}
	namespaces := []string{own}
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsForbidden(err):
		missing = append(missing, "all namespaces but "+own+": you may list neither SecretProviderClasses of all namespaces nor namespaces; name another with -n")
	case err != nil:
		return nil, nil, err
	default:
		namespaces = namespaces[:0]
		for _, n := range list.Items {
			namespaces = append(namespaces, n.Name)
		}
	}
	for _, namespace := range namespaces {
		found, err := List(ctx, client, namespace)
		switch {
		case apierrors.IsForbidden(err):
			missing = append(missing, "namespace "+namespace+": you are not allowed to list its SecretProviderClasses")
		case err != nil:
			return nil, nil, err
		}
		all = append(all, found...)
	}
	return all, missing, nil
}
