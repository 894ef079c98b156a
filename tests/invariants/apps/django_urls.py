"""Every path leads to the one view of the invariants' application."""

from django.urls import re_path

from tests.invariants.apps.django_app import serve

urlpatterns = [re_path(r"^(?P<path>.*)$", serve)]
