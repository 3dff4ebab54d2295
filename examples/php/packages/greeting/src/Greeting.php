<?php

declare(strict_types=1);

namespace Berth\Greeting;

/** What an application says to its visitors. */
final class Greeting
{
    public static function of(string $language, string $version): string
    {
        return "Hello from Berth ($language) version $version\n";
    }
}
