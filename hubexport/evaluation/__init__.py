"""The accuracy of classification modules on labelled images, measured as the published figures were."""
